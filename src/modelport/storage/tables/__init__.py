"""The tables, one file per noun. Say ``tables.Model``, so that a row is never taken for the API's shape of it."""

from modelport.storage.tables.access import Audit, Key
from modelport.storage.tables.base import Base, now
from modelport.storage.tables.batches import Batch, File
from modelport.storage.tables.blobs import Blob, VersionBlob
from modelport.storage.tables.datasets import Dataset, DatasetBlob, DatasetParent, DatasetVersion
from modelport.storage.tables.deployments import Deployment, Revision
from modelport.storage.tables.evaluations import Evaluation
from modelport.storage.tables.grades import Grade
from modelport.storage.tables.jobs import Job, JobEvent, JobMetric, Schedule
from modelport.storage.tables.models import Alias, Label, Model, Parent, Version
from modelport.storage.tables.projects import Project

__all__ = [
    "Alias",
    "Audit",
    "Base",
    "Batch",
    "Blob",
    "Dataset",
    "DatasetBlob",
    "DatasetParent",
    "DatasetVersion",
    "Deployment",
    "Evaluation",
    "File",
    "Grade",
    "Job",
    "JobEvent",
    "JobMetric",
    "Key",
    "Label",
    "Model",
    "Parent",
    "Project",
    "Revision",
    "Schedule",
    "Version",
    "VersionBlob",
    "now",
]
