"""The YAML files of the configuration, as a package so that they ship in the wheel."""
