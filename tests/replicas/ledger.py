"""The checks at the end of a run, and its figures."""

import collections
import statistics

from load import OBJECTS, STREAM
from faults import CALM, TAKE_OVER


def missing(world):
    """Returns the ids that were promised and have not arrived, by target."""
    promised = world.load.promised()
    lacks = {name: promised - target.first.keys() for name, target in world.targets.items()}
    return {name: ids for name, ids in lacks.items() if ids}


def pauses(world):
    """Yields the longest time without a delivery in seconds, by episode and receiver."""
    stream = lambda request: int(request.object.removeprefix("ord_")) % 3 == STREAM
    times = {name: [request.at for request in target.requests] for name, target in world.targets.items()}
    good = world.targets["good"].requests
    times["stream"] = [request.at for request in good if stream(request)]
    for episode in world.faults.episodes:
        begin, end = episode.since, min(episode.end + CALM, world.load_ended)
        for name, at in times.items():
            within = [begin, *(one for one in at if begin <= one <= end), end]
            yield episode, name, max(later - earlier for earlier, later in zip(within, within[1:]))


def breaches(world):
    """Yields a sentence for every promise that was broken."""
    for name, ids in missing(world).items():
        yield f"{len(ids)} events have not arrived at {name}: {sorted(ids)[:3]}"
    for target in world.targets.values():
        yield from out_of_order(world, target)
    for name in ("good", "failing"):
        for first, again in world.targets[name].repeats:
            spans = (episode.repeats for episode in world.faults.episodes if episode.repeats)
            late = (world.arguments.slack - 1) * TAKE_OVER
            if not any(begin <= first.at <= end + late for begin, end in spans):
                yield (
                    f"{first.id} was repeated at {name} without a cause: accepted at {world.clock(first.at)} under "
                    f"term {first.term}, and again at {world.clock(again.at)} under {again.term}"
                )
    twice = [identity for identity, count in world.targets["hold"].sent.items() if count > 1]
    twice = [identity for identity in twice if not is_claim_forgotten(world, identity)]
    if twice:
        yield f"{len(twice)} events were requested twice under hold: {twice[:3]}"
    for episode, name, pause in pauses(world):
        if pause > episode.pause_limit * world.arguments.slack:
            yield f"{name} had to wait for {pause:.1f} s at {world.clock(episode.begin)}: {episode.name} {episode.what}"
    for begin, end in world.doubled_streams:
        frozen = any(one.freezes and one.begin <= begin and end <= one.end + 2 for one in world.faults.episodes)
        if end - begin > TAKE_OVER * world.arguments.slack and not frozen:
            yield f"the stream had two connections for {end - begin:.1f} s at {world.clock(begin)}"
    for identity, count in world.load.new.items():
        if count > 1 and identity not in world.load.forgotten:
            yield f"{identity} was acknowledged as new {count} times"
    for target in world.targets.values():
        if any(request.term == 0 for request in target.requests):
            yield f"{target.name} has got requests without a term"
    yield from in_the_database(world)
    yield from after_forgetting(world)
    for replica in world.replicas:
        if "panicked" in (replica.folder / "log").read_text(errors="replace"):
            yield f"{replica.name} has panicked"


def after_forgetting(world):
    """Yields the breaches of a fail-over to a standby that was behind."""
    for episode in world.faults.episodes:
        if episode.forgotten is None:
            continue
        if episode.forgotten == 0:
            yield f"nothing was lost at {world.clock(episode.begin)}: the standby was not behind"
        for target in world.targets.values():
            before = max((request.term for request in target.requests if request.at < episode.since), default=0)
            after = (request.term for request in target.requests if request.at > episode.since + TAKE_OVER)
            if min(after, default=before + 1) <= before:
                yield f"the terms of {target.name} have decreased at {world.clock(episode.since)}"


def is_claim_forgotten(world, identity):
    """Returns whether the database may have lost the first claim of this event."""
    first = next(request.at for request in world.targets["hold"].requests if request.id == identity)
    losing = (episode for episode in world.faults.episodes if episode.forgotten is not None)
    return any(episode.begin - 2 <= first <= episode.since for episode in losing)


def out_of_order(world, target):
    """Yields the objects whose first arrivals are out of order. A lost event that comes again has no place."""
    requests = collections.defaultdict(list)
    for request in sorted(target.first.values(), key=lambda request: request.at):
        if request.id not in world.load.forgotten:
            requests[request.object].append(request)
    told = lambda one: f"step {one.step} (sequence {one.sequence}, term {one.term}, {world.clock(one.at)})"
    for thing, its in requests.items():
        late = next((f"{told(b)} after {told(a)}" for a, b in zip(its, its[1:]) if a.step > b.step), None)
        if late:
            yield f"{thing} is out of order at {target.name}: {late}"


def in_the_database(world):
    [[count, least, most]] = world.server.ask("SELECT count(*), min(sequence), max(sequence) FROM pepay_bridge.event")
    if int(count) != int(most) - int(least) + 1:
        yield f"{count} events are numbered from {least} to {most}"
    kept = {row[0] for row in world.server.ask("SELECT id FROM pepay_bridge.event")}
    if lacks := world.load.promised() - kept:
        yield f"{len(lacks)} acknowledged events are not in the database: {sorted(lacks)[:3]}"
    open_ones = world.server.ask(
        "SELECT target_id, state, count(*) FROM pepay_bridge.delivery"
        " WHERE state NOT IN ('delivered', 'closed') GROUP BY 1, 2"
    )
    for target, state, number in open_ones:
        yield f"{number} deliveries to target {target} are still {state}"
    numbers = collections.defaultdict(set)
    for target in world.targets.values():
        for request in target.requests:
            numbers[request.id].add(request.sequence)
    strange = [identity for identity, of in numbers.items() if len(of) > 1]
    if strange := [identity for identity in strange if identity not in world.load.forgotten]:
        yield f"{len(strange)} events have had several sequences: {strange[:3]}"


def older_terms(target):
    """Returns the number of requests by owners that had lost their lease: under a term older than the newest so far."""
    newest, count = 0, 0
    for request in target.requests:
        count += request.term < newest
        newest = max(newest, request.term)
    return count


def summary(world):
    faults, load = world.faults.episodes, world.load
    kinds = collections.defaultdict(lambda: collections.defaultdict(list))
    for episode, name, pause in pauses(world):
        kinds[episode.name][name].append(pause)
    hold = world.targets["hold"]
    yield (
        f"seed {world.arguments.seed}: {len(load.promised())} events of {OBJECTS} objects to 3 targets by 3 replicas, "
        f"{load.duplicates} of their webhooks repeats; {len(faults)} faults of {len(kinds)} kinds"
    )
    refusals = ", ".join(f"{count} {status}" for status, count in sorted(load.refusals.items(), key=str)) or "none"
    yield f"webhooks that were not acknowledged at once: {refusals}"
    yield f"closed {world.closing:.1f} s after the last event"
    if load.forgotten:
        gone = load.acknowledged.keys() - load.promised()
        yield f"lost with a primary: {len(load.forgotten)} events, of which {len(gone)} did not come again"
    for target in world.targets.values():
        yield (
            f"{target.name}: {len(target.first)} arrived, {len(target.repeats)} repeated, {older_terms(target)} "
            f"requests under an older term"
        )
    answers = ", ".join(f"{count} {status}" for status, count in world.decided.items() if isinstance(status, int))
    yield (
        f"hold: {world.decided['close']} held deliveries closed, {world.decided['release']} released, within "
        f"{max(world.deciding, default=0):.1f} s each; answers: {answers or 'none'}"
    )
    yield f"this program waited for the processor for {world.lag:.2f} s at most"
    longest = max((end - begin for begin, end in world.doubled_streams), default=0)
    yield f"two connections of the stream: {len(world.doubled_streams)} times, for {longest:.1f} s at most"
    yield "longest pause of deliveries by fault, in seconds: median and greatest"
    names = [*world.targets, "stream"]
    yield "| fault | times | " + " | ".join(names) + " |"
    yield "|---|---:|" + "---:|" * len(names)
    for kind, of in kinds.items():
        cells = [f"{statistics.median(of[name]):.1f}, {max(of[name]):.1f}" for name in names]
        yield f"| {kind.replace('_', ' ')} | {len(of[names[0]])} | " + " | ".join(cells) + " |"
