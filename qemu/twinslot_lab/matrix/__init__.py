"""From a requirement to the line that keeps it, the test that ran and its result, and back: one matrix of a run.

Requirements and risks are data (`load.py`), code says where one is kept (`marks.py`), tests say what they verify, and
the run says which marked lines they reached (`reach.py`, `collect.py`). `join.py` puts it together and finds what does
not fit; `render.py` and `page.py` print it. docs/guide-matrix.md shows it from a maker's side.
"""
