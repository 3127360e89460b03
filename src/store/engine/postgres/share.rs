//! Decides which leases a process takes and gives back, so that each replica delivers to its share
//! of the targets. No I/O.

use std::collections::BTreeSet;
use std::time::Duration;

/// How long a lease may be free before a process takes it regardless of its share. The others could
/// have taken it by then.
const LEFT_OVER: Duration = Duration::from_secs(2);

/// A living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) wants: BTreeSet<String>,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) state: RowState,
}

/// The holder of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// The process with this id.
    Held(String),
    /// No process, for this long.
    Free(Duration),
}

/// The leases that a process takes and gives back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) take: Vec<String>,
    pub(super) leave: Vec<String>,
}

/// Returns the plan of the process `me`. Targets are spread evenly, and each kind of lease is
/// spread separately. A stream stays where it is, since moving it costs a connection.
pub(super) fn plan(me: &str, members: &[Member], rows: &[Row]) -> Plan {
    let mut plan = Plan::default();
    for kind in rows.iter().map(|row| kind(&row.name)).collect::<BTreeSet<_>>() {
        let of_kind: Vec<&Row> = rows.iter().filter(|row| self::kind(&row.name) == kind).collect();
        let wanted: Vec<&Row> = of_kind
            .iter()
            .copied()
            .filter(|row| members.iter().any(|one| one.wants.contains(&row.name)))
            .collect();
        let sharing: Vec<&Member> =
            members.iter().filter(|one| wanted.iter().any(|row| one.wants.contains(&row.name))).collect();
        let Some(place) = sharing.iter().position(|one| one.id == me) else { continue };
        let share = wanted.len().div_ceil(sharing.len());
        let held = |id: &str| wanted.iter().filter(|row| row.state == RowState::Held(id.to_owned())).count();
        let mut mine = held(me);
        // Processes that start together begin at different places.
        let begin = place * share;
        let in_turn = wanted.iter().cycle().skip(begin).take(wanted.len());
        for row in in_turn.filter(|row| sharing[place].wants.contains(&row.name)) {
            match row.state {
                RowState::Free(since) if mine < share || since >= LEFT_OVER => {
                    mine += 1;
                    plan.take.push(row.name.clone());
                }
                _ => {}
            }
        }
        // While configurations differ, as in a rolling deployment, nothing is moved: another
        // process might not want the lease that this one leaves.
        let all_want_all = sharing.iter().all(|one| wanted.iter().all(|row| one.wants.contains(&row.name)));
        if kind != "target" || !all_want_all {
            continue;
        }
        let mut counts: Vec<usize> = sharing.iter().map(|one| held(&one.id)).collect();
        let ours = wanted.iter().rev().filter(|row| row.state == RowState::Held(me.to_owned()));
        for row in ours {
            // A process that has its share takes no more.
            let others = (0..counts.len()).filter(|other| *other != place && counts[*other] < share);
            let Some(to) = others.min_by_key(|other| counts[*other]) else { break };
            if mine > share && counts[to] + 1 < mine {
                mine -= 1;
                counts[to] += 1;
                plan.leave.push(row.name.clone());
            }
        }
    }
    plan
}

/// Returns the plan of a process that claims no share. If it `has_others`, it takes the wanted
/// leases that the others have left, otherwise every free one.
pub(super) fn left_over(wants: &BTreeSet<String>, rows: &[Row], has_others: bool) -> Plan {
    let least = if has_others { LEFT_OVER } else { Duration::ZERO };
    let is_left = |row: &&Row| matches!(row.state, RowState::Free(since) if since >= least);
    let left = rows.iter().filter(is_left).filter(|row| wants.contains(&row.name));
    Plan { take: left.map(|row| row.name.clone()).collect(), leave: Vec::new() }
}

/// Returns the kind of a lease: the part of its name before the slash.
fn kind(name: &str) -> &str {
    name.split_once('/').map_or(name, |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: usize, wants: &[String]) -> Member {
        Member { id: format!("r{id}"), wants: wants.iter().cloned().collect() }
    }

    fn targets(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("target/t{n:02}")).collect()
    }

    fn free(names: &[String]) -> Vec<Row> {
        names.iter().map(|name| Row { name: name.clone(), state: RowState::Free(Duration::ZERO) }).collect()
    }

    /// Has every member carry out its plan in turn, for this many rounds.
    fn settle(members: &[Member], rows: &mut [Row], rounds: usize) -> usize {
        let mut moves = 0;
        for round in 0..rounds {
            for member in members {
                let plan = plan(&member.id, members, rows);
                for row in rows.iter_mut() {
                    if plan.leave.contains(&row.name) {
                        row.state = RowState::Free(Duration::ZERO);
                        moves += usize::from(round + 1 == rounds);
                    } else if plan.take.contains(&row.name) {
                        assert!(matches!(row.state, RowState::Free(_)));
                        row.state = RowState::Held(member.id.clone());
                        moves += usize::from(round + 1 == rounds);
                    }
                }
            }
        }
        moves
    }

    fn counts(members: &[Member], rows: &[Row]) -> Vec<usize> {
        let held = |id: &str| rows.iter().filter(|row| row.state == RowState::Held(id.to_owned())).count();
        members.iter().map(|member| held(&member.id)).collect()
    }

    #[test]
    fn a_single_replica_takes_every_lease_that_it_wants() {
        let names = targets(3);
        let alone = [member(0, &names)];
        assert_eq!(plan("r0", &alone, &free(&names)).take, names);
    }

    #[test]
    fn a_replica_that_joins_is_given_its_share() {
        let names = targets(5);
        let (mut rows, two) = (free(&names), [member(0, &names), member(1, &names)]);
        settle(&two[..1], &mut rows, 1);
        assert_eq!(counts(&two, &rows), [5, 0]);
        settle(&two, &mut rows, 2);
        assert_eq!(counts(&two, &rows), [3, 2]);
    }

    #[test]
    fn a_stream_is_not_moved_between_replicas() {
        let names = ["stream/a".to_owned(), "stream/b".to_owned()];
        let (mut rows, two) = (free(&names), [member(0, &names), member(1, &names)]);
        settle(&two[..1], &mut rows, 1);
        settle(&two, &mut rows, 3);
        assert_eq!(counts(&two, &rows), [2, 0]);
    }

    #[test]
    fn a_lease_that_one_replica_alone_wants_is_taken_by_it() {
        let names = targets(2);
        let both = [member(0, &names), member(1, &[])];
        assert_eq!(plan("r1", &both, &free(&names)), Plan::default());
        assert_eq!(plan("r0", &both, &free(&names)).take, names);
    }

    #[test]
    fn a_process_that_claims_no_share_takes_what_it_wants_of_what_the_others_have_left() {
        let names = targets(4);
        let wants = names[..3].iter().cloned().collect();
        let states = [
            RowState::Free(LEFT_OVER),
            RowState::Free(LEFT_OVER / 2),
            RowState::Held("r1".to_owned()),
            RowState::Free(LEFT_OVER),
        ];
        let rows: Vec<_> =
            names.iter().cloned().zip(states).map(|(name, state)| Row { name, state }).collect();
        let taken = |names: &[String]| Plan { take: names.to_vec(), leave: vec![] };
        assert_eq!(left_over(&wants, &rows, true), taken(&names[..1]));
        assert_eq!(left_over(&wants, &rows, false), taken(&names[..2]), "there is no other to leave it to");
    }

    proptest! {
        #[test]
        fn every_lease_ends_up_with_a_replica_that_wants_it_and_stays_there(
            wants in prop::collection::vec(prop::collection::btree_set(0_usize..8, 0..8), 1..5),
            started in prop::collection::vec(prop::option::of(0_usize..5), 8),
        ) {
            let names = targets(8);
            let members: Vec<Member> = wants.iter().enumerate().map(|(id, wants)| {
                member(id, &wants.iter().map(|n| names[*n].clone()).collect::<Vec<_>>())
            }).collect();
            let mut rows = free(&names);
            for (row, holder) in rows.iter_mut().zip(started) {
                // A dead process holds nothing, and a process holds nothing that it does not want.
                let holder = holder.and_then(|id| members.get(id)).filter(|one| one.wants.contains(&row.name));
                if let Some(holder) = holder {
                    row.state = RowState::Held(holder.id.clone());
                }
            }
            settle(&members, &mut rows, 8);
            for row in &mut rows {
                if row.state == RowState::Free(Duration::ZERO) {
                    row.state = RowState::Free(LEFT_OVER);
                }
            }
            settle(&members, &mut rows, 8);
            for row in &rows {
                let wanted = members.iter().any(|one| one.wants.contains(&row.name));
                prop_assert_eq!(wanted, matches!(row.state, RowState::Held(_)), "{:?}", row);
            }
            prop_assert_eq!(settle(&members, &mut rows, 1), 0, "something still moves");
            if members.iter().all(|one| one.wants == members[0].wants) {
                let most = members[0].wants.len().div_ceil(members.len());
                prop_assert!(counts(&members, &rows).iter().all(|count| *count <= most));
            }
        }
    }
}
