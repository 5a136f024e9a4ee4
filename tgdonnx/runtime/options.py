"""The options of every session that is opened, for inference or for training."""

from __future__ import annotations

from typing import Any

from tgdonnx.runtime.importing import load_onnxruntime

NOTHING = 4
"""The level of the runtime's log at which it tells only what ends the process."""

_threads: list[int] = []  # at most one: as many as a session of this process may have


def limit_threads(count: int) -> None:
    """Gives sessions that are opened from now on in this process so many threads, instead of one for each core.

    For processes that share a machine. The last bits of a result may depend on it, as they do on the machine.

    Args:
        count: at least 1.
    """
    _threads[:] = [count]


def session_options() -> Any:
    """Returns options under which results are right and the terminal stays quiet.

    Raises:
        RuntimeMissingError: no onnxruntime is installed.
    """
    options = load_onnxruntime().SessionOptions()
    options.log_severity_level = NOTHING
    options.intra_op_num_threads = _threads[0] if _threads else 0  # 0: as many as there are cores
    # The plan by which onnxruntime-training 1.19.2 lays out activations in memory is wrong for some graphs: results are then
    # wrong, or the process dies.
    options.enable_mem_pattern = False
    # In onnxruntime-training 1.19.2 this optimizer reads beyond a list, and ends the process, where the second of the values
    # that branches take from outside comes from a Conv that nobody else reads. Without it nothing was seen to be slower.
    options.add_session_config_entry("optimization.disable_specified_optimizers", "ConvActivationFusion")
    # It would compute with integers where the standard says to compute with the real numbers that they stand for.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options
