"""What a run stands on: settings, device, signals, folder, checkpoints, weights, processes, console."""
