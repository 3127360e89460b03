use super::*;

const NOW: UnixMillis = UnixMillis(1_000_000);

fn breaker() -> Breaker {
    Breaker::new(Backoff::new(Duration::from_secs(1), Duration::from_secs(3600)).unwrap())
}

/// Notes the end of an attempt about `subject`.
fn end(breaker: &mut Breaker, subject: i64, first: bool, health: Health) -> Option<Circuit> {
    breaker.note(Tried { role: Role::Regular, subject, first }, health, NOW, 1.0)
}

/// Notes attempts about up to `subjects` subjects that end alike. Returns the number after which the
/// breaker opened.
fn opened_after(breaker: &mut Breaker, subjects: i64, first: bool, health: Health) -> Option<i64> {
    (1..=subjects).find(|subject| end(breaker, *subject, first, health) == Some(Circuit::Open))
}

/// Notes a failed probe at `now`.
fn failed_probe(breaker: &mut Breaker, subject: i64, first: bool, health: Health, now: UnixMillis) {
    let role = breaker.sent(subject);
    assert_eq!(role, Role::Probe);
    breaker.note(Tried { role, subject, first }, health, now, 1.0);
}

fn silent() -> Breaker {
    let mut breaker = breaker();
    assert!(opened_after(&mut breaker, 100, true, Health::Silent).is_some());
    breaker
}

#[test]
fn a_target_that_accepts_nothing_soon_opens_the_circuit() {
    for (health, most) in
        [(Health::Unreached, 5), (Health::Silent, 10), (Health::Busy, 20), (Health::Failing, 100)]
    {
        let opened = opened_after(&mut breaker(), 1000, true, health);
        assert_eq!(opened, Some(most), "{health:?}");
    }
    // Retries have failed before, so it takes more of them.
    assert_eq!(opened_after(&mut breaker(), 1000, false, Health::Busy), Some(50));
}

#[test]
fn failures_of_one_object_alone_do_not_open_the_circuit() {
    for health in [Health::Silent, Health::Busy, Health::Failing] {
        let mut breaker = breaker();
        for _ in 0..10_000 {
            assert_eq!(end(&mut breaker, 7, true, health), None);
        }
        assert_eq!(breaker.ask(NOW, true, true), Permit::Yes);
    }
}

#[test]
fn retries_that_fail_with_errors_do_not_keep_a_first_attempt_waiting() {
    let mut breaker = breaker();
    assert!(opened_after(&mut breaker, 50_000, false, Health::Failing).is_some_and(|after| after >= 500));
    assert_eq!(breaker.ask(NOW, true, true), Permit::ProbeFresh);
    assert!(matches!(breaker.ask(NOW, false, true), Permit::NotBefore(_)));
    failed_probe(&mut breaker, 1, true, Health::Failing, NOW);
    assert_eq!(breaker.ask(NOW.plus(Duration::from_millis(5)), true, true), Permit::ProbeFresh);
}

/// Returns how many probes an open breaker allows in a minute, if all of them fail alike.
fn probes_in_a_minute(breaker: &mut Breaker, health: Health) -> i64 {
    let (mut now, mut probes) = (NOW, 0);
    while now < NOW.plus(Duration::from_mins(1)) {
        match breaker.ask(now, true, false) {
            Permit::ProbeFresh => {
                probes += 1;
                failed_probe(breaker, probes, true, health, now);
            }
            Permit::NotBefore(later) => now = later,
            other => panic!("{other:?}"),
        }
    }
    probes
}

#[test]
fn the_pace_of_first_attempts_at_an_open_circuit_depends_on_the_kind_of_failure() {
    let of = |health, wanted: std::ops::Range<i64>| {
        let mut breaker = breaker();
        assert!(opened_after(&mut breaker, 1000, true, health).is_some());
        let probes = probes_in_a_minute(&mut breaker, health);
        assert!(wanted.contains(&probes), "{health:?}: {probes}");
        let role = breaker.sent(-1);
        let tried = Tried { role, subject: -1, first: true };
        assert_eq!(breaker.note(tried, Health::Up, NOW, 1.0), Some(Circuit::Closed));
    };
    of(Health::Unreached, 5..8);
    of(Health::Silent, 5..8);
    of(Health::Busy, 30..45);
    of(Health::Failing, 2_000..3_000);
}

#[test]
fn first_attempts_stop_once_a_failing_target_is_unreachable() {
    let mut breaker = breaker();
    opened_after(&mut breaker, 1000, true, Health::Failing);
    for probe in 0..UNREACHED {
        failed_probe(&mut breaker, probe, true, Health::Unreached, NOW);
    }
    assert!(matches!(breaker.ask(NOW.plus(Duration::from_secs(1)), true, true), Permit::NotBefore(_)));
}

const UNREACHED: i64 = 5;

#[test]
fn a_target_that_accepts_some_events_keeps_its_circuit_closed_over_long_runs_of_failures() {
    for (share, health) in [(10, Health::Busy), (100, Health::Failing), (8, Health::Silent)] {
        let mut breaker = breaker();
        // One event in `share` is taken; the runs of failures have every length up to three times that.
        let (mut subject, mut length) = (0, 1);
        let mut opened = 0;
        for _ in 0..2_000 {
            length = length * 7 % (3 * share) + 1;
            for _ in 0..length {
                subject += 1;
                opened += i32::from(end(&mut breaker, subject, true, health) == Some(Circuit::Open));
            }
            end(&mut breaker, 0, true, Health::Up);
        }
        assert!(opened <= 1, "{health:?} at one in {share}: {opened}");
    }
}

#[test]
fn one_probe_goes_out_at_a_time_and_the_intervals_grow() {
    let mut breaker = silent();
    let (mut now, mut intervals) = (NOW, Vec::new());
    for probe in 0..9 {
        let Permit::NotBefore(until) = breaker.ask(now, true, true) else { panic!("open") };
        intervals.push(until.since(now).as_secs());
        now = until;
        assert_eq!(breaker.ask(now, true, true), Permit::ProbeFresh);
        assert_eq!(breaker.ask(now, false, true), Permit::ProbeRetry);
        assert_eq!(breaker.sent(probe), Role::Probe);
        assert_eq!(breaker.ask(now, true, true), Permit::AfterProbe);
        let tried = Tried { role: Role::Probe, subject: probe, first: true };
        breaker.note(tried, Health::Silent, now, 1.0);
        assert!(breaker.has_probed(probe) && !breaker.has_probed(probe + 1));
    }
    assert_eq!(intervals, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn a_probe_that_never_left_is_still_due() {
    let (mut breaker, later) = (silent(), NOW.plus(Duration::from_secs(1)));
    let role = breaker.sent(1);
    breaker.unsent(role);
    assert_eq!(breaker.ask(later, true, false), Permit::ProbeFresh);
}

#[test]
fn the_first_success_closes_it() {
    let mut breaker = silent();
    let role = breaker.sent(1);
    let tried = Tried { role, subject: 1, first: true };
    assert_eq!(breaker.note(tried, Health::Up, NOW, 0.5), Some(Circuit::Closed));
    assert_eq!(breaker.ask(NOW, true, true), Permit::Yes);
    assert_eq!(end(&mut breaker, 2, true, Health::Silent), None);
}

#[test]
fn the_failure_of_an_earlier_request_is_no_failed_probe() {
    let mut breaker = silent();
    breaker.sent(1);
    assert_eq!(end(&mut breaker, 2, true, Health::Silent), None);
    assert_eq!(breaker.ask(NOW, true, true), Permit::AfterProbe);
}

#[test]
fn a_clock_that_was_set_back_does_not_put_off_the_next_probe() {
    let earlier = UnixMillis(NOW.0 - 3_600_000);
    assert_eq!(silent().ask(earlier, true, true), Permit::ProbeFresh);
}
