pytest_plugins = ["twinslot_lab.plugin"]
