"""Settings of the documentation's build; a warning is an error."""

project = "amltk"
author = "The amltk developers"
copyright = "The amltk developers"
html_title = "amltk"
html_theme = "furo"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

nitpicky = True
autodoc_typehints = "none"  # the signature shows them; a second list would say it again
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_use_rtype = False

nitpick_ignore_regex = [
    # Names of the standard library and of typing: no page of ours describes them, and the build
    # needs no network.
    (r"py:.*", r"(typing|collections|concurrent|asyncio|builtins|abc|enum|multiprocessing)\..*"),
    (r"py:.*", r"(ValueError|TypeError|RuntimeError|LookupError|ImportError|Exception|object)"),
    (r"py:.*", r"(UserWarning|RuntimeWarning|RuntimeError|BrokenExecutor|Executor|Enum|str)"),
    # The base of the future, which users never name, and an error of the standard library.
    (r"py:.*", r"(amltk\._future\.LightFuture|CancelledError)"),
    # The private base of plugins whose worker side has one thing to tell.
    (r"py:.*", r"amltk\.channel\.notes\.NotePlugin"),
    # What stays in the driver, and says so when it is pickled.
    (r"py:.*", r"amltk\.scheduling\.driverside\.DriverSide"),
    # Type variables.
    (r"py:.*", r"(.*\.)?(P|Q|R|SelfT|T)"),
]
