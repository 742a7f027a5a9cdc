"""The steps from an empty database to the tables of `skerry.cloud.tables`."""
