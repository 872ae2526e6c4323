"""ONNX: export an encoder to one file, run it without torch, and measure what was lost."""
