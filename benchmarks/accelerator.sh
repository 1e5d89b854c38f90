#!/usr/bin/env bash
# What only a GPU can tell, in one command of at most 8 minutes:
#
#     benchmarks/accelerator.sh OUT FOLDER_OF_IMAGES [SECONDS]
#
# In OUT: results.txt, what each part printed, and at its end which parts ran, failed or were skipped; summary.json, the
# same for programs; joint.jsonl, the log of joint training; encoder.pt.*, its encoder in pieces, and encoder.txt, how
# to put them together. Each part has its share of SECONDS (480); one that fails or takes longer does not end the
# others. Joint training takes what is left, ended by SIGTERM. Where python3 has no torch, a .venv is made in the
# checkout. It can be changed by the environment:
#
#     START   encoder file that joint training starts from (random)
#     LABELED labeled set (demo)
#     JOINT   more flags of joint training, such as "--arch resnet18 --lr 0.3"
#     PARTS   the parts to run (all)
#     TINY=1  sizes and an encoder for a CPU, to test this script
set -uo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ] || [ ! -d "$2" ] || ! [[ ${3-480} =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: benchmarks/accelerator.sh OUT FOLDER_OF_IMAGES [SECONDS]" >&2
    exit 2
fi
mkdir -p "$1" || exit 2
out=$(realpath "$1") images=$(realpath "$2") budget=${3-480} start=${START:-random}
[ -f "$start" ] && start=$(realpath "$start")
cd "$(dirname "$0")/.." || exit 2
parts=${PARTS:-machine tests distortions step accumulate-2 accumulate-4 accumulate-8 compile nccl gloo joint encoder}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -f "$out"/encoder.* "$out/joint.jsonl"
: > "$out/results.txt"
: > "$work/summary"

if ! python3 -c "import torch" 2> "$work/import"; then
    { [ -d .venv ] || python3 -m venv .venv; } && . .venv/bin/activate
    python3 -c "import torch" 2> "$work/import" \
        || timeout $((budget / 2)) pip install --quiet pytest -e . > "$work/import" 2>&1 \
        || { echo "torch must be installed, and could not be: $(tail -n 1 "$work/import")" | tee "$out/results.txt"; exit 1; }
fi
export PYTHONUNBUFFERED=1

device=cpu amp=off workers=0 accumulate=8
if python3 -c "import torch, sys; sys.exit(not torch.cuda.is_available())"; then
    device=cuda workers=$(nproc)
    python3 -c "import torch, sys; sys.exit(not torch.cuda.is_bf16_supported())" && amp=bf16
fi
size=(--batch-size 1000 --labeled-batch-size 32)
encoder=(--arch resnet50)
if [ -n "${TINY-}" ]; then
    size=(--batch-size 16 --labeled-batch-size 8)
    encoder=(--arch dct-mlp)
fi
common=(--preset paper --unlabeled "$images" --labeled "${LABELED:-demo}" --device "$device" --amp "$amp"
    "${encoder[@]}" "${size[@]}")
step=(python3 -m benchmarks.step --images 0 --repeats 2 --init random "${common[@]}")

note() {  # NAME STATUS SECONDS: a line of the summary, with the last line that the part printed
    local last
    last=$(tail -n 1 "$work/$1" 2> /dev/null | tr -d '"\\[:cntrl:]' | cut -c 1-200)
    printf '%-13s %-9s %4d s   %s\n' "$1" "$2" "$3" "$last" | tee -a "$work/summary"
    printf '{"part": "%s", "status": "%s", "seconds": %d, "last": "%s"}\n' "$1" "$2" "$3" "$last" >> "$work/json"
}

part() {  # NAME SECONDS COMMAND..: runs it for at most so many of 480 seconds. Not 0 unless it ran to its end.
    local name=$1 limit=$(($2 * budget / 480)) began=$SECONDS status=ok code
    shift 2
    [[ " $parts " == *" $name "* ]] || return 1
    [ "$limit" -le $((budget - SECONDS)) ] || limit=$((budget - SECONDS))
    if [ "$limit" -lt 1 ]; then
        note "$name" skipped 0
        return 1
    fi
    timeout --preserve-status --kill-after $((5 + budget / 40)) "$limit" "$@" > "$work/$name" 2>&1 < /dev/null
    code=$?
    case $code in
        0) ;;
        75) code=0 ;;  # train_joint.py: ended by the signal, and saved
        137 | 143) status="timed out" ;;
        *) status=failed ;;
    esac
    { echo "== $name: $status (exit code $code, $((SECONDS - began)) of $limit s)"; tail -n 200 "$work/$name"; echo; } \
        >> "$out/results.txt"
    note "$name" "$status" $((SECONDS - began))
    return "$code"
}

part machine 20 python3 -c '
import os, platform, torch
print("Python", platform.python_version(), "torch", torch.__version__, "CUDA", torch.version.cuda)
names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(len(os.sched_getaffinity(0)), "cores;", *[f"{n.name}, {n.total_memory / 2**30:.0f} GiB" for n in names] or ["no GPU"])'
part tests 70 env SSL_IQA_TEST_DEVICE="$device" python3 -m pytest -p no:cacheprovider tests/test_device.py
part distortions 50 python3 -m benchmarks.distortions --photographs "$images" --device "$device" --amp "$amp" \
    --repeats 2 "${encoder[@]}" "${size[@]:0:2}"
part step 50 "${step[@]}" && accumulate=1
for chunks in 2 4 8; do
    part "accumulate-$chunks" 30 "${step[@]}" --accumulate "$chunks" && [ "$accumulate" = 8 ] && accumulate=$chunks
done
part compile 60 "${step[@]}" --compile --accumulate "$accumulate"
part nccl 30 python3 -m benchmarks.two_processes nccl
part gloo 30 python3 -m benchmarks.two_processes gloo

# The rest but for ending, saving and the encoder.
part joint $((480 - 480 * SECONDS / budget - 40)) python3 train_joint.py "${common[@]}" --init "$start" \
    --accumulate "$accumulate" --distort-on device --near-duplicates ignore --workers "$workers" \
    --validation-size "${size[1]}" --epochs 10000 --stop-after 10000 --out "$work/run" ${JOINT-}
[ ! -f "$work/run/log.jsonl" ] || cp "$work/run/log.jsonl" "$out/joint.jsonl"
part encoder 20 python3 -c '
import sys, torch
from ssl_iqa.engine.weights import load_encoder
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)["encoder"]
# one-dimensional ones stay float32: they are few, and a running variance may be beyond float16
state["weights"] = {name: w.half() if w.ndim > 1 else w for name, w in state["weights"].items()}
torch.save(state, sys.argv[2])
print(load_encoder(sys.argv[2]).arch, "in half precision loads")
' "$work/run/last.pt" "$work/encoder.pt" && (
    cd "$out" && split --bytes 14000000 "$work/encoder.pt" encoder.pt. &&
        echo "cat encoder.pt.* > encoder.pt    # sha256: $(sha256sum < "$work/encoder.pt" | cut -d ' ' -f 1)" > encoder.txt
)

{ echo "== summary: $SECONDS of $budget s, on $device"; cat "$work/summary"; } >> "$out/results.txt"
{ echo "["; sed '$! s/$/,/' "$work/json"; echo "]"; } > "$out/summary.json"
