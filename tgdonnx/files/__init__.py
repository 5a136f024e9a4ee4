"""Files: an ONNX model's and our own, how they are read, what may be written, and that a crash leaves the old or the new."""
