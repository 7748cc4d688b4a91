"""`coatcheck doctor`: what an auditor would find, before deployment (`module:app`, a store, a secret) or from outside (a URL).

A check is a function that looks at one thing and yields findings; its docstring is its name. `report` runs them, `render` shows
what came of it, `command` is the command line. Before deployment: `inspection` finds the sessions, `settings`, `storage` and
`packages` check them. From outside: `tour` makes the requests, once, with `browser`; `crossing` (the way in) and `holding`
(the session) are pure checks of what was answered.
"""
