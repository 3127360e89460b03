//! A dispatcher's order, a store in memory, and the messages between the two.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::super::{Limits, Order, Place, Timely};
use super::stored::{Row, Stored};
use super::{Answer, Done, Handover, Outcome, Step};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Next, State};
use crate::store::types::{Arrived, Found, Kind, Search};

pub(super) const NOW: UnixMillis = UnixMillis(1_000);
const SMALL: Limits = Limits { items: 6, bytes: 1 << 20, lanes: 3, fresh_lookups: 2 };

/// The largest number of searches before the dispatcher rests.
const SEARCHES: usize = 200;

/// The store, the dispatcher's order, and the messages between the two.
pub(super) struct World {
    repeats: bool,
    stored: Stored,
    order: Order,
    handed_over: VecDeque<Arrived>,
    missed: bool,
    search: Option<(Search, Found)>,
    out: Vec<i64>,
    /// Deliveries that have ended and are not written yet.
    ending: Vec<(i64, Outcome)>,
}

impl World {
    pub(super) fn new(repeats: bool) -> Self {
        Self {
            repeats,
            stored: Stored::default(),
            order: Order::limited(repeats, SMALL),
            handed_over: VecDeque::new(),
            missed: false,
            search: None,
            out: Vec::new(),
            ending: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Store { lane, rank, handed_over } => self.store(*lane, *rank, *handed_over),
            Step::Take => self.take(),
            Step::Search => self.search(true),
            Step::Found => self.found(),
            Step::SearchFails => self.search_fails(),
            Step::Rest => self.rest(),
            Step::Start(which) => {
                let ready: Vec<_> = Kind::ALL.into_iter().filter(|kind| self.order.has(*kind)).collect();
                if !ready.is_empty() {
                    self.start(ready[which.index(ready.len())]);
                }
            }
            Step::NotSent(which) if !self.out.is_empty() => {
                let sequence = self.out.swap_remove(which.index(self.out.len()));
                self.order.not_sent(sequence);
            }
            Step::End(which, outcome) if !self.out.is_empty() => {
                self.end(which.index(self.out.len()), *outcome);
            }
            Step::Write(which) if !self.ending.is_empty() => self.write(which.index(self.ending.len())),
            Step::Act(which, done, answer) if !self.stored.rows.is_empty() && self.search.is_none() => {
                let sequence = i64::try_from(which.index(self.stored.rows.len())).unwrap() + 1;
                self.act(sequence, *done, *answer);
            }
            Step::SetBack => self.set_back(),
            Step::Restart => self.restart(),
            Step::NotSent(_) | Step::End(..) | Step::Write(_) | Step::Act(..) => {}
        }
        self.check();
    }

    fn store(&mut self, lane: u8, rank: i64, handed_over: Handover) {
        let sequence = i64::try_from(self.stored.rows.len()).unwrap() + 1;
        // The last number stands for no lane.
        let lane = (lane < 5).then_some(i64::from(lane));
        self.stored.rows.insert(sequence, Row { lane, rank, state: State::Pending, due: false, attempts: 0 });
        let job = (handed_over == Handover::Whole).then(|| self.stored.job(sequence));
        match handed_over {
            Handover::Missed => self.missed = true,
            Handover::Whole | Handover::Stub => {
                // A delivery after a missed one is handed over together with the count of missed ones.
                self.handed_over.push_back(Arrived { sequence, lane, rank, job });
            }
        }
    }

    fn note_missed(&mut self) {
        if std::mem::take(&mut self.missed) {
            self.order.missed_some();
        }
    }

    fn take(&mut self) {
        self.note_missed();
        while let Some(arrived) = self.handed_over.pop_front() {
            self.order.arrived(arrived);
        }
    }

    /// Searches like the store, in a snapshot that is taken now.
    fn search(&mut self, timely: bool) {
        if self.search.is_none()
            && let Some(search) = self.order.search(NOW, Timely { retries: timely, census: timely })
        {
            let found = self.stored.find(&search);
            self.search = Some((search, found));
        }
    }

    fn found(&mut self) {
        self.take();
        if let Some((_, found)) = self.search.take() {
            self.order.found(found);
        }
    }

    fn search_fails(&mut self) {
        self.take();
        if let Some((search, _)) = self.search.take() {
            self.order.search_failed(&search);
        }
    }

    /// Searches as long as there is a reason that is not a time.
    fn rest(&mut self) {
        for _ in 0..SEARCHES {
            self.found();
            self.search(false);
            if self.search.is_none() {
                return;
            }
        }
        panic!("nothing changes, and the searches do not end: {:?}", self.order);
    }

    fn set_back(&mut self) {
        let ending = self.ending.iter().map(|(sequence, _)| sequence);
        for sequence in self.out.iter().chain(ending) {
            self.stored.rows.get_mut(sequence).unwrap().due = false;
        }
    }

    fn start(&mut self, kind: Kind) {
        let Some(job) = self.order.next(kind) else { panic!("{kind:?} has none") };
        let row = &self.stored.rows[&job.sequence];
        assert!(!self.out.contains(&job.sequence) && !self.is_ending(job.sequence), "it is out already");
        assert!(matches!(row.state, State::Pending | State::Retrying), "{row:?} is sent");
        assert!(row.state == State::Pending || row.due, "a retry is sent before its time");
        if let Some(lane) = row.lane {
            let in_lane = |sequence: &i64| self.stored.rows[sequence].lane == Some(lane);
            assert!(!self.out.iter().any(in_lane), "two of a lane are out");
            let known: HashSet<_> = self.handed_over.iter().map(|arrived| arrived.sequence).collect();
            for (sequence, other) in self.stored.rows.iter().filter(|(_, other)| other.lane == Some(lane)) {
                assert!(other.state != State::Held, "a held delivery does not hold back its lane");
                let ended = self.ending.iter().find(|(one, _)| one == sequence);
                if let Some((_, outcome)) = ended {
                    assert!(
                        self.repeats && matches!(outcome, Outcome::Delivered),
                        "the one before may still fail"
                    );
                    continue;
                }
                let is_before = (other.rank, *sequence) < (row.rank, job.sequence);
                // The dispatcher cannot know a delivery that was stored a moment ago.
                let is_known = !known.contains(sequence) && !self.missed;
                let is_open = matches!(other.state, State::Pending | State::Retrying);
                assert!(!(is_before && is_open && is_known), "{other:?} comes before {row:?} and waits");
            }
        }
        self.out.push(job.sequence);
    }

    fn is_ending(&self, sequence: i64) -> bool {
        self.ending.iter().any(|(one, _)| *one == sequence)
    }

    fn end(&mut self, index: usize, outcome: Outcome) {
        let sequence = self.out.swap_remove(index);
        if matches!(outcome, Outcome::Delivered) {
            self.order.acknowledged(sequence);
        } else {
            self.order.failed(sequence);
        }
        self.ending.push((sequence, outcome));
    }

    /// Outcomes are written in any order, except those of one lane.
    fn write(&mut self, index: usize) {
        let lane = self.stored.rows[&self.ending[index].0].lane;
        let index = match lane {
            Some(_) => self.ending.iter().position(|(one, _)| self.stored.rows[one].lane == lane).unwrap(),
            None => index,
        };
        let (sequence, outcome) = self.ending.remove(index);
        let row = self.stored.rows.get_mut(&sequence).unwrap();
        row.attempts += 1;
        let next = match outcome {
            Outcome::Delivered => Next::Delivered,
            Outcome::RetryNow | Outcome::RetryLater => {
                row.due = matches!(outcome, Outcome::RetryNow);
                Next::Retrying { due_at: NOW }
            }
            Outcome::Held => {
                row.rank = 0;
                Next::Held
            }
            Outcome::Dead => Next::Dead,
        };
        row.state = next.state();
        self.order.written(sequence, next);
    }

    /// Acts like the dispatcher: no search runs meanwhile, and a delivery that was sent is left alone.
    fn act(&mut self, sequence: i64, done: Done, answer: Answer) {
        let was_sent = self.order.is_out(sequence);
        if !was_sent {
            self.order.withdraw(sequence);
            if answer != Answer::Failed {
                self.change(sequence, done);
            }
        }
        self.note_missed();
        while let Some(arrived) = self.handed_over.pop_front() {
            let job = arrived.job.filter(|_| arrived.sequence != sequence);
            self.order.arrived(Arrived { job, ..arrived });
        }
        if answer != Answer::Done {
            self.order.missed_some();
        } else if !was_sent {
            self.order.changed(sequence, self.stored.rows[&sequence].lane);
        }
        self.order.restore();
    }

    fn change(&mut self, sequence: i64, done: Done) {
        let row = self.stored.rows.get_mut(&sequence).unwrap();
        match done {
            Done::Cancel if !row.state.is_settled() => row.state = State::Cancelled,
            Done::SendAgain if row.state == State::Pending => {}
            Done::SendAgain => {
                row.state = if row.attempts > 0 { State::Retrying } else { State::Pending };
                row.due = row.attempts > 0;
            }
            Done::Cancel => {}
        }
    }

    /// Attempts on the wire were not recorded: they are made again.
    fn restart(&mut self) {
        // A crash loses the outcomes that are not written.
        self.ending.clear();
        self.out.clear();
        self.handed_over.clear();
        (self.missed, self.search) = (false, None);
        self.order = Order::limited(self.repeats, SMALL);
    }

    fn check(&self) {
        let most = SMALL.items + 8 * 8 + self.out.len() + self.ending.len();
        assert!(self.order.items.len() <= most, "{} deliveries are in memory", self.order.items.len());
        let counted: usize = self.order.items.values().map(|item| item.bytes).sum();
        assert_eq!(self.order.bytes, counted);
        let of = |kind: Kind| self.order.ready[kind].iter().copied();
        let ready: BTreeSet<_> = Kind::ALL.into_iter().flat_map(of).collect();
        for (sequence, item) in &self.order.items {
            assert_eq!(matches!(item.place, Place::Ready(_)), ready.contains(sequence), "{sequence}");
        }
    }

    /// Delivers every delivery that can be delivered.
    pub(super) fn finish(mut self) {
        let mut turns = 0;
        loop {
            for row in self.stored.rows.values_mut() {
                row.due = true;
            }
            self.take();
            self.found();
            while let Some(kind) = Kind::ALL.into_iter().find(|kind| self.order.has(*kind)) {
                self.start(kind);
            }
            while !self.out.is_empty() {
                self.end(0, Outcome::Delivered);
            }
            while !self.ending.is_empty() {
                self.write(0);
            }
            self.search(true);
            turns += 1;
            let waits = |row: &Row| matches!(row.state, State::Pending | State::Retrying);
            let held: HashSet<_> = self
                .stored
                .rows
                .values()
                .filter(|row| row.state == State::Held)
                .map(|row| row.lane)
                .collect();
            let rest: Vec<_> = self
                .stored
                .rows
                .iter()
                .filter(|(_, row)| waits(row) && (row.lane.is_none() || !held.contains(&row.lane)))
                .collect();
            if rest.is_empty() {
                return;
            }
            assert!(turns < 1_000, "{rest:?} are forgotten by {:?}", self.order);
        }
    }
}
