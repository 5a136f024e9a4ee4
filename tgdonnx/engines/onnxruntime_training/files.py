"""The files of ONNX Runtime's on-device training, as its documentation calls them."""

TRAINING_MODEL, EVAL_MODEL, OPTIMIZER_MODEL = "training_model.onnx", "eval_model.onnx", "optimizer_model.onnx"
CHECKPOINT, BEST_CHECKPOINT = "checkpoint", "checkpoint.best"
