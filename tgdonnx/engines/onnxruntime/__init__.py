"""Training on any ONNX Runtime: a step, with its gradients and its optimizer, is one ONNX model, and state goes in and out."""
