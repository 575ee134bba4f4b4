"""Measure what leaks, in anyone's model."""

import sys

from ..callable_package import CallablePackage
from .api import WAYS, audit
from .documents import random_documents
from .findings import Audit, Finding, Leak, Place, Verdict
from .huggingface import longest_document
from .report import Report, every_way
from .subject import Subject

__all__ = [
    "WAYS",
    "Audit",
    "Finding",
    "Leak",
    "Place",
    "Report",
    "Subject",
    "Verdict",
    "audit",
    "every_way",
    "longest_document",
    "random_documents",
]

sys.modules[__name__].__class__ = CallablePackage
