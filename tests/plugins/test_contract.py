"""The plugin contract over plugins that need no file of tests of their own for it."""

from amltk import CallLimiter, TaskPlugin
from amltk.scheduling.plugin import Layer, WorkerPlugin, Wrapped
from amltk.testing.contracts import PluginContract


class TestLimiter(PluginContract):
    def make(self):
        return CallLimiter(max_calls=100)


class Own(TaskPlugin):
    name = "own"


class TestOwn(PluginContract):
    engine = "sequential"

    def make(self):
        return Own()


class Twice(Wrapped):
    def __call__(self, *args, **kwargs):
        self.fn(*args, **kwargs)
        return self.fn(*args, **kwargs)


class OwnInWorker(WorkerPlugin):
    name = "twice"
    layer = Layer.FUNCTION

    def wrap(self, fn):
        return Twice(fn)


class TestOwnInWorker(PluginContract):
    def make(self):
        return OwnInWorker()
