"""What of prometheus_client is replaced, so that its metrics are shared; all that leans on its inside is here.

Documented names are used, but for ``values.ValueClass``, which the library itself looks up each time that it makes a
value, ``values.MutexValue``, which that is before, and the attributes of metrics in `PRIVATE`.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from typing import Any

import prometheus_client
from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Metric, Summary, values
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from stator.instrumentation.layout import FamilyKey
from stator.instrumentation.memory import Memory
from stator.instrumentation.merge import LabelSet, Merge, without_worker
from stator.instrumentation.reader import Family
from stator.instrumentation.states import enum_value, info_value
from stator.instrumentation.store import OWN
from stator.instrumentation.values import SharedValue, make_value

# Of a metric: the names of its labels, a child's label values (an argument, too), what makes its values, the value of a
# counter, gauge, info or enum, when it was created, what a function takes the place of, the states of an enum, and the
# children by their label values.
LABEL_NAMES, LABEL_VALUES, START, VALUE, CREATED, SAMPLES, STATES, CHILDREN = PRIVATE = (
    "_labelnames",
    "_labelvalues",
    "_metric_init",
    "_value",
    "_created",
    "_child_samples",
    "_states",
    "_metrics",
)
# Where an info or an enum keeps its shared value.
OWN_VALUE = "_stator_value"
SHARED = (Counter, Gauge, Histogram, Summary, Info, Enum)
Collect = Callable[[Any], Iterable[Metric]]


class Library:
    """The library's metrics, shared from now on."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._keys: dict[FamilyKey, FamilyKey] = {}
        # A counter with a value of the library's own says whether series about the creation are wanted.
        self._probe = partial(Counter.collect, Counter("stator_probe", "", registry=None))
        self._with_function: set[str] = set()
        # Names of the metrics that this process has, those included that have no series yet.
        self._names: set[str] = set()

    @staticmethod
    def current() -> "Library | None":
        """Returns the one by which metrics are shared already, or None."""
        library = getattr(values.ValueClass, "__self__", None)
        return library if isinstance(library, Library) else None

    def share(self) -> None:
        """Shares the library's metrics, those included that are there already.

        Raises:
            TypeError: A metric that is there can't be shared; the message names it.
        """
        probe = self._probe.args[0]
        every = (each for each in gc.get_objects() if issubclass(type(each), SHARED) and each is not probe)
        earlier = [each for each in every if LABEL_VALUES in vars(each)]  # others could not be made
        for metric in earlier:
            _check(metric)
        values.ValueClass = self._make_value  # the library only calls it
        for type_ in SHARED:
            setattr(type_, "__init__", self._followed_by(type_.__init__, self._note))  # noqa: B010
            setattr(type_, "collect", self._merging(type_.collect))  # noqa: B010
            setattr(type_, "labels", _looking_up(type_.labels))  # noqa: B010
            for name in {"remove", "remove_by_labels", "clear"} & {*dir(type_)}:
                setattr(type_, name, _detaching(getattr(type_, name)))
        setattr(Gauge, "set_function", self._followed_by(Gauge.set_function, self._withdraw))  # noqa: B010
        setattr(Info, "info", self._followed_by(Info.info, self._share_info))  # noqa: B010
        setattr(Enum, "state", self._followed_by(Enum.state, self._share_state))  # noqa: B010
        for metric in earlier:
            self._take_over(metric)
        prometheus_client.REGISTRY.register(_Elsewhere(self.families_elsewhere))

    def _make_value(self, *args: Any, multiprocess_mode: str = "", **_: object) -> SharedValue:
        """Takes the arguments of the library's own values."""
        type_, family, sample, label_names, label_values, documentation = args
        key = FamilyKey(type_, family, sample, tuple(label_names), documentation, multiprocess_mode)
        return make_value(self.memory, self._keys.setdefault(key, key), label_values)

    def _followed_by(self, own: Callable[..., None], act: Callable[[Any], object]) -> Callable[..., None]:
        @wraps(own)
        def call(metric: Any, *args: Any, **kwargs: Any) -> None:
            own(metric, *args, **kwargs)
            act(metric)

        return call

    def _note(self, metric: Any) -> None:
        # Not by vars(): CPython finds the attributes of an object more slowly once it has made it a dictionary.
        if not getattr(metric, LABEL_VALUES):
            self._names.add(_family(metric).name)
        if isinstance(metric, Enum) and VALUE in vars(metric):
            self._share_state(metric)

    def _share_info(self, info: Any) -> None:
        own = vars(info)
        labels = own[LABEL_NAMES], own[LABEL_VALUES]
        with self.memory.lock:  # not two at a time: the end of one value would remove the other's series
            own[OWN_VALUE] = info_value(self.memory, _family(info), labels, own[VALUE])

    def _share_state(self, enum: Any) -> None:
        own = vars(enum)
        if OWN_VALUE not in own:
            labels = own[LABEL_NAMES], own[LABEL_VALUES]
            own[OWN_VALUE] = enum_value(self.memory, _family(enum), labels, own[STATES])
        own[OWN_VALUE].set(own[VALUE])

    def _merging(self, own: Collect) -> Collect:
        @wraps(own)
        def collect(metric: Any) -> Iterable[Metric]:
            if getattr(metric, LABEL_VALUES, None):
                return own(metric)  # a child shows what it has in this process
            try:
                return [self._merged(metric, own)]
            except OSError:
                return own(metric)

        return collect

    def _merged(self, metric: Any, own: Collect) -> Metric:
        family, memory = _family(metric), self.memory
        shared = memory.reader.family(family.name, family.type, memory.row)
        family.samples = self._samples(shared) if shared else []
        is_blank = family.type == "info" and not family.samples
        if memory.is_incomplete or is_blank or family.name in self._with_function:
            # What only this process has.
            known = {_series(sample) for sample in family.samples}
            known |= {(name, without_worker(labels)) for name, labels in known}
            family.samples += [sample for sample in _samples(own(metric)) if _series(sample) not in known]
        if family.name in memory.with_exemplars:
            exemplars = {_series(sample): sample.exemplar for sample in _samples(own(metric)) if sample.exemplar}
            family.samples = [sample._replace(exemplar=exemplars.get(_series(sample))) for sample in family.samples]
        return family

    def _samples(self, family: Family) -> list[Sample]:
        with_created = any(sample.name.endswith("_created") for sample in _samples(self._probe()))
        return Merge(self.memory, family, with_created=with_created).samples()

    def families_elsewhere(self) -> Iterator[Metric]:
        """Yields the families that other processes have and this one does not."""
        try:
            families = self.memory.reader.families(self.memory.row)
        except OSError:  # the application has closed the memory
            return
        for family in families:
            if family.name not in self._names and not family.type.startswith(OWN):
                metric = Metric(family.name, family.documentation, family.type)
                metric.samples = self._samples(family)
                yield metric

    def _withdraw(self, gauge: Any) -> None:
        """Leaves a gauge with a function to each process: there is no value to share."""
        self._with_function.add(_family(gauge).name)
        vars(gauge)[VALUE].withdraw()

    def _take_over(self, metric: Any) -> None:
        """Gives a metric shared values in place of those that it has."""
        own = vars(metric)
        self._note(metric)
        if isinstance(metric, Info) and own.get(VALUE):
            self._share_info(metric)
        before = {name: old for name, value in own.items() if (old := _values(value))}
        created = own.get(CREATED)
        if not before:
            return  # its children have them
        getattr(metric, START)()
        for name, old in before.items():
            for value, new in zip(old, _values(own[name]), strict=True):
                new.set(value.get())
                new.set_exemplar(value.get_exemplar())
        if created is not None:
            own[CREATED] = created
        if SAMPLES in own:
            self._withdraw(metric)


class _Elsewhere(Collector):
    """Families of other processes alone, in the default registry."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: no name is taken."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Returns the families as they are now."""
        return self._families()


def _looking_up(own: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a ``labels`` that finds a child that is there in a third of the time of the library's own."""

    @wraps(own)
    def labels(metric: Any, *values: object, **by_name: object) -> Any:
        for value in values:
            # What equals a text need not be shown as that text: a member of an Enum that is a str.
            if type(value) is not str:
                return own(metric, *values, **by_name)
        child = getattr(metric, CHILDREN, {}).get(values)  # a metric without labels has none
        return own(metric, *values, **by_name) if child is None or by_name else child

    return labels


def _detaching(own: Callable[..., None]) -> Callable[..., None]:
    """Returns a ``remove`` or ``clear`` that removes the series of children that the application still has, too."""

    @wraps(own)
    def remove(metric: Any, *values: Any, **by_name: Any) -> None:
        children = getattr(metric, CHILDREN, {})
        wanted = [tuple(map(str, values))] if own.__name__ == "remove" else list(children)
        before = {labels: children[labels] for labels in wanted if labels in children}
        own(metric, *values, **by_name)
        left = getattr(metric, CHILDREN, {})
        gone = [vars(child).values() for labels, child in before.items() if left.get(labels) is not child]
        for value in (value for attributes in gone for each in attributes for value in _values(each)):
            value.detach()

    return remove


def _family(metric: Any) -> Metric:
    (family,) = MetricWrapperBase.describe(metric)  # not a subclass's own
    return family


def _samples(families: Iterable[Metric]) -> Iterator[Sample]:
    return (sample for family in families for sample in family.samples)


def _series(sample: Sample) -> tuple[str, LabelSet]:
    return sample.name, frozenset(sample.labels.items())


def _values(value: Any) -> list[Any]:
    """Returns the values that an attribute of a metric holds: one, a list of them, or none."""
    return [each for each in (value if isinstance(value, list) else [value]) if hasattr(each, "get_exemplar")]


def _check(metric: Any) -> None:
    for value in (each for attribute in vars(metric).values() for each in _values(attribute)):
        if type(value) is not values.MutexValue:
            msg = f"can't share the metric {_family(metric).name!r}: its values are {type(value).__qualname__}"
            raise TypeError(msg)
