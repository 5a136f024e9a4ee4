"""Can this model be trained here? Answered operator by operator, before anyone waits.

The answer is found by doing what `tgdonnx.build` and `tgdonnx.train` do first: cut, lower, and if nothing stands in the way,
build artifacts in a temporary place and open their session. For a masked model it is the answer to that selection; for
another, to the largest that scores can make (every filter with a finite importance). Of several outputs, where none is chosen,
it is the answer to the first that can be trained on.

Codes:

    TGD001  the operator set is not supported             TGD010  a node is lowered, and by what
    TGD002  no output, or one of several, was chosen      TGD011  a node trains as it is
    TGD003  no weight, or one of a type, that trains      TGD101  no training runtime is installed
    TGD004  a node cannot be lowered                      TGD102  two runtimes are installed in each other's place
    TGD005  a node has no gradient                        TGD103  the runtime is another version than was measured
    TGD006  the runtime cannot build the gradient         TGD104  a shape that the file declares is wrong
    TGD007  the model computes with integers              TGD105  what training does first was not tried
    TGD008  the runtime cannot open the session           TGD106  training cannot be on the device
"""

from tgdonnx.checking.findings import Finding
from tgdonnx.checking.model import CheckReport, check

__all__ = ["CheckReport", "Finding", "check"]
