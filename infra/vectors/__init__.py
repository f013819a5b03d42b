"""Embeddings and the vector history. The only package that imports pymilvus."""

import math

from modelpilot.providers.breaker import BreakerRules

# How long Milvus or an embeddings endpoint is left alone when it fails: not every request should wait a whole deadline.
LEAVE_ALONE = BreakerRules(
    failures_in_a_row=2, failure_share=math.inf, first_open_s=0.5, longest_open_s=5.0, probe_s=5.0
)
