"""Section 4: metrics, splits that respect what was seen, the cells and tables, probes, the learning curve."""
