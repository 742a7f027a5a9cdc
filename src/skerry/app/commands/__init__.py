"""The commands: one file each, loaded only when its command runs.

A command is a function that takes what was typed and returns a frozen dataclass, and
beside it a function that renders that dataclass for people. `skerry.app.table` names
both; `skerry.app.main` calls them, prints, and turns errors into exit codes.

Parameters before `/` are positional; the keyword `output`, where a command takes it,
is the `skerry.app.output.Output` to talk and show progress on. A result that has an
`exit_code` decides the process's; otherwise it is 0.
"""
