"""Which tests one worker runs one after the other, when several run the suite (``pytest -n 4``).

All tests of a group run in one process, so that there is one Ray, one Dask and one user of each
batch system at a time, however many workers there are, and the blocks of a page stay one program.
Groups go by the ids of tests, since those are all that the process knows that hands them out.
"""

import re

import pytest

#: The groups, and what is found in the ids of their tests. Long ones first: they begin first.
#: Stand-ins of batch systems are folders of commands, and belong to nobody.
GROUPS = {
    "slurm": r"Test(Slurm|PBSOnSlurm)\b|\[[^]]*\bslurm\b|page_of_clusters",
    "htcondor": r"TestHTCondor\b|\[[^]]*\bhtcondor\b(?!-stand-in)",
    "oar": r"TestOAR\b|\[[^]]*\boar\b(?!-stand-in)",
    "sge": r"TestGridEngine\b|\[[^]]*\bsge\b",
    "airflow": r"airflow/test_executor\.py|\[[^]]*\bairflow\b|page_of_airflow",
    "ray": r"^tests/executors/ray/|\[[^]]*\bray\b|page_of_ray",
    "dask": r"^tests/executors/dask/|\[[^]]*\bdask\b|Dask",
}
#: All tests that were found, also those that are left out of a run.
COLLECTED = pytest.StashKey[tuple[pytest.Item, ...]]()

_PATTERNS = {group: re.compile(pattern) for group, pattern in GROUPS.items()}

#: Tests that share fixtures of their file, or of their class, stay together: what is found here.
_TOGETHER = re.compile(
    r"^.*\.md"  # a page is one program
    r"|^tests/(channel|typing|examples)/[^:]*"
    r"|^tests/executors/jobqueue/[^:]*::Test\w+"
)


def group_of(nodeid: str) -> str:
    """Return what runs in one process with a test: an engine, a page, a class, or the test alone."""
    for group, pattern in _PATTERNS.items():
        if pattern.search(nodeid):
            return group
    found = _TOGETHER.match(nodeid)
    return found.group() if found else nodeid


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]):
    """Put the long groups first, in their order; the rest stays in the order that chance gave."""
    config.stash[COLLECTED] = tuple(items)
    yield
    places = {group: place for place, group in enumerate(GROUPS)}
    items.sort(key=lambda item: places.get(group_of(item.nodeid), len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out whole groups."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        """Whole groups to whoever is free; a test that ends its process is not tried again."""

        def _split_scope(self, nodeid):
            return group_of(nodeid)

        def _reschedule(self, node):
            # A process begins a test only when it knows the next one, or that there is none. So one
            # that takes the place of another gets as many as all had at first, or is told to end.
            while node in self.registered_collections and not node.shutting_down:
                if not self.workqueue:
                    node.shutdown()
                elif self._pending_of(self.assigned_work[node]) > 2:
                    return
                else:
                    self._assign_work_unit(node)

        def remove_node(self, node):
            units = self.assigned_work.pop(node)
            left = [(unit, test) for unit in units.values() for test in unit if not unit[test]]
            if not left:
                return None
            unit, crashed = left[0]
            unit[crashed] = True  # else it would end the next process as well
            for group in reversed([name for name in units if False in units[name].values()]):
                self.workqueue[group] = units[group]
                self.workqueue.move_to_end(group, last=False)
            for other in list(self.assigned_work):
                self._reschedule(other)
            return crashed

    config.option.loadscopereorder = False  # the order is that of the collection
    return GroupScheduling(config, log)
