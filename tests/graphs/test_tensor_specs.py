"""What the inputs of a step say of batches."""

from __future__ import annotations

from typing import Optional

from tgdonnx.graphs.tensor_specs import TensorSpec, fixed_batch, shared_inputs


def test_which_inputs_have_no_axis_of_samples_follows_from_the_others() -> None:
    def places(*shapes: Optional[tuple[Optional[int], ...]]) -> list[int]:
        inputs = [TensorSpec(str(place), "float32", shape) for place, shape in enumerate(shapes)]
        return sorted(shared_inputs([*inputs, TensorSpec("target", "float32", (None, 2), role="target")]))

    assert places((None, 3, 8, 8), ()) == [1]
    assert places((), (None, 3, 8, 8), (1, 1, 1, 1), (7, 3)) == [0, 2, 3]
    assert places((1, 3, 8, 8), (1, 1, 1, 1)) == []
    assert places((4, 3, 8, 8), (1, 1, 1, 1), (4, 2)) == [1]
    assert places(None, (1,)) == [1]
    level, image = TensorSpec("s", "float32", (1, 1, 1, 1)), TensorSpec("x", "float32", (4, 3, 8, 8))
    assert fixed_batch([level, image]) == 4
    assert fixed_batch([level, TensorSpec("x", "float32", (None, 3, 8, 8))]) is None
