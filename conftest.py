"""What is left out where Flower is not installed: what imports it. `.ci/run` has an environment with it."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("flwr") else ["tgdonnx/federated/[!_]*.py", "tests/federated/flower/*.py"]
