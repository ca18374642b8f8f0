"""The bench: measures Twinslot beside other update clients in the same run. `python -m bench --help`."""
