"""Many fine-tunings: one model for many studies, devices or patients.

``jobs``: what is asked for; ``planning``: all that is wrong with it, before anything is written; ``batch``: the whole of it;
``running``: one job in this process; ``sharing``: artifacts that several jobs start from, made once; ``identity``: what a job
reads, by content; ``records``: what is kept of a job; ``standing``: outliers; ``summary`` and ``page``: what came of all.
"""

from tgdonnx.batching.batch import BatchReport, batch, faults_of
from tgdonnx.batching.jobs import BatchJob, ByDropTest, JobResults
from tgdonnx.batching.records import JobResult

__all__ = ["BatchJob", "BatchReport", "ByDropTest", "JobResult", "JobResults", "batch", "faults_of"]
