//! Tests the machine against a model of Pepay, the network and the store, in random interleavings.
//! Every promise is checked at every commit.

mod world;

use proptest::prelude::*;
use world::World;

use crate::pepay::error::FailureKind;
use crate::source::stream::StartFrom;

/// A step of the model.
#[derive(Clone, Debug)]
enum Act {
    /// Pepay creates an event about one of a few orders, or about its invoice.
    Create(u8, Kind),
    /// A webhook brings one of the existing events.
    Webhook(usize),
    /// The requested connection is opened. The server replays in this way.
    Connect(Replay),
    /// The requested connection is not opened.
    ConnectFails(FailureKind),
    /// The next frame arrives.
    Frame,
    /// An older event is sent once more.
    Repeat(usize),
    /// The server hints at a gap.
    Hint,
    /// The connection drops, with all frames on the wire.
    Drop,
    /// Pepay builds the requested page.
    Serve,
    /// The page arrives, if it has been built.
    Page,
    /// The page does not arrive.
    PageFails(FailureKind),
    /// The store commits.
    Commit,
    /// The store fails, after this many events of the batch at most.
    CommitFails(u8),
    /// The store reports which events it has.
    Compare,
    /// The process dies and starts again, with other types and filters if there are any. A batch
    /// under way may have been committed.
    Restart(bool, Option<Subscribed>),
    /// Time passes.
    Wait(u16),
    /// Pepay forgets its oldest events.
    Forget(u8),
    /// The server loses a frame silently.
    LoseFrame,
    /// The next page of a walk is wrong.
    WrongPage(PageFault),
    /// An operator requests a new connection.
    Reconnect,
    /// An operator requests a backfill after one of the existing events, by its id or by its time.
    Backfill(usize, bool),
}

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Order,
    Invoice,
}

/// The types and filters of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscribed {
    /// Every type, no filter.
    All,
    /// Events of orders.
    Orders,
    /// Events of invoices.
    Invoices,
    /// Every type, filtered by one order, which the list does not know as a parameter.
    OneOrder,
}

const SUBSCRIBED: [Subscribed; 4] =
    [Subscribed::All, Subscribed::Orders, Subscribed::Invoices, Subscribed::OneOrder];

/// A fault of one page of the list.
#[derive(Clone, Copy, Debug)]
enum PageFault {
    /// The page is empty, and the list ends there.
    Empty,
    /// The list ends there.
    CutOff,
    /// The page is the first page once more.
    Top,
    /// The entries come oldest first.
    Shuffled,
    /// An entry with an old time comes first.
    OldOnTop,
    /// The page cannot be read.
    Unreadable,
}

const PAGE_FAULTS: [PageFault; 6] = [
    PageFault::Empty,
    PageFault::CutOff,
    PageFault::Top,
    PageFault::Shuffled,
    PageFault::OldOnTop,
    PageFault::Unreadable,
];

/// How the list treats `ending_before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newer {
    /// The page next to the cursor comes first.
    NextToCursor,
    /// The newest page comes first.
    Newest,
    /// The parameter is refused.
    Refused,
}

/// What the server sends for `since`.
#[derive(Clone, Copy, Debug)]
enum Replay {
    /// Everything after it.
    Full,
    /// The first few events after it. The server then silently goes on live.
    First(u8),
    /// The newest few events: the bounded snapshot.
    Last(u8),
    /// Nothing.
    Nothing,
}

const FAILURES: [FailureKind; 5] = [
    FailureKind::Refused,
    FailureKind::RateLimited,
    FailureKind::Unavailable,
    FailureKind::Unreachable,
    FailureKind::Malformed,
];

fn act(lossy: bool) -> impl Strategy<Value = Act> {
    let failure = || prop::sample::select(&FAILURES[..]);
    let replay = prop_oneof![
        Just(Replay::Full),
        (0..8_u8).prop_map(Replay::First),
        (0..8_u8).prop_map(Replay::Last),
        Just(Replay::Nothing),
    ];
    prop_oneof![
        8 => (0..4_u8).prop_map(|order| Act::Create(order, Kind::Order)),
        3 => (0..4_u8).prop_map(|order| Act::Create(order, Kind::Invoice)),
        2 => any::<usize>().prop_map(Act::Webhook),
        6 => replay.prop_map(Act::Connect),
        1 => failure().prop_map(Act::ConnectFails),
        10 => Just(Act::Frame),
        1 => any::<usize>().prop_map(Act::Repeat),
        1 => Just(Act::Hint),
        2 => Just(Act::Drop),
        8 => Just(Act::Serve),
        8 => Just(Act::Page),
        1 => failure().prop_map(Act::PageFails),
        10 => Just(Act::Commit),
        1 => (0..4_u8).prop_map(Act::CommitFails),
        2 => Just(Act::Compare),
        if lossy { 4 } else { 1 } => (any::<bool>(), prop::option::of(subscribed()))
            .prop_map(|(done, other)| Act::Restart(done, other)),
        // To test that sweeps find lost events, interruptions may be longer than sweeps look back.
        8 => (0..if lossy { 60_000 } else { 20_000_u16 }).prop_map(Act::Wait),
        1 => (0..12_u8).prop_map(Act::Forget),
        1 => Just(if lossy { Act::LoseFrame } else { Act::Frame }),
        2 => prop::sample::select(&PAGE_FAULTS[..]).prop_map(Act::WrongPage),
        1 => Just(Act::Reconnect),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, by_time)| Act::Backfill(which, by_time)),
    ]
}

fn subscribed() -> impl Strategy<Value = Subscribed> {
    prop::sample::select(&SUBSCRIBED[..])
}

fn newer() -> impl Strategy<Value = Newer> {
    prop::sample::select(&[Newer::NextToCursor, Newer::Newest, Newer::Refused][..])
}

fn start() -> impl Strategy<Value = StartFrom> {
    prop_oneof![Just(StartFrom::Now), Just(StartFrom::Earliest)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every event that Pepay still has is stored once. The cursor never passes an event that is
    /// not stored. Within an object, no event is handed over before an earlier one.
    #[test]
    fn no_sequence_of_faults_loses_or_reorders_events(
        acts in prop::collection::vec(act(false), 1..400),
        ordered_ids: bool,
        newer in newer(),
        before in 0..12_usize,
        start_from in start(),
    ) {
        let mut world = World::new(ordered_ids, newer, before, start_from, false);
        for act in acts {
            world.play(&act);
        }
        world.heal();
    }

    /// Sweeps find the live frames that a server loses silently.
    #[test]
    fn sweeps_find_events_whose_frames_were_lost(
        acts in prop::collection::vec(act(true), 1..200),
        newer in newer(),
        before in 0..12_usize,
    ) {
        let mut world = World::new(true, newer, before, StartFrom::Now, true);
        for act in acts {
            world.play(&act);
        }
        world.heal();
    }
}
