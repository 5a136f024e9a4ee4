"""PyTorch as an oracle: ONNX interpreted by it, and what is compared with its autograd; needs PyTorch, run with -m torch."""
