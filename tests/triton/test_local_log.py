"""Of the server's log, an error shows what went wrong."""

from __future__ import annotations

from infer_backends_triton._serve.log import last_errors

LOG = """\
I1122 11:20:54.000001 18465 server.cc:100] "starting"
E1122 11:20:54.000002 18465 server.cc:241] "CudaDriverHelper has not been initialized."
E1122 11:20:55.000003 18465 model_lifecycle.cc:642] "failed to load 'm': ValueError: wrong

At:
  /models/m/1/model.py(1): <module>
+-------+---------+
| Model | Version |
+-------+---------+
I1122 11:20:55.000004 18465 server.cc:305] "waiting"
error: creating server: Internal - failed to load all models
"""

ERRORS = """\
E1122 11:20:55.000003 18465 model_lifecycle.cc:642] "failed to load 'm': ValueError: wrong
At:
  /models/m/1/model.py(1): <module>
error: creating server: Internal - failed to load all models"""


def test_errors_are_taken_with_their_further_lines_and_without_tables() -> None:
    assert last_errors(LOG, 20) == ERRORS


def test_no_more_lines_are_taken_than_asked_for() -> None:
    assert last_errors(LOG, 1) == ERRORS.splitlines()[-1]


def test_a_log_without_errors_is_shown_as_it_is() -> None:
    assert last_errors("bin/tritonserver: cannot execute\n", 20) == (
        "bin/tritonserver: cannot execute"
    )
    assert last_errors("", 20) == ""
