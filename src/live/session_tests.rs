use super::*;
use proptest::prelude::*;

const fn s(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000_000)
}

fn connected(until: u64) -> Session {
    let mut session = Session::new(s(0), s(until));
    assert_eq!(session.poll(s(0), 0), Some(Act::Connect));
    session
}

#[test]
fn a_session_comes_up_tells_its_bytes_and_ends_with_its_lease() {
    let mut session = connected(200);
    assert_eq!(session.live(s(1), 5_000), Some(Act::TellLive { rev: 1 }));
    assert_eq!(session.live(s(2), 6_000), None, "told once");
    assert_eq!(session.due(), s(61));
    assert_eq!(session.poll(s(61), 90_000), Some(Act::TellLive { rev: 2 }));
    assert_eq!(session.poll(s(121), 90_000), None, "nothing new to tell");
    let end = End::Ended(Reason::Lease);
    assert_eq!(
        session.poll(s(200), 95_000),
        Some(Act::Over { end, rev: 3 })
    );
    assert!(session.is_over() && session.stop(Reason::Stopped).is_none());
}

#[test]
fn renewing_moves_the_end_both_ways() {
    let mut session = connected(100);
    session.live(s(1), 1);
    session.renew(s(300));
    assert_eq!(session.poll(s(100), 1), None);
    session.renew(s(150));
    let end = End::Ended(Reason::Lease);
    assert_eq!(session.poll(s(150), 1), Some(Act::Over { end, rev: 2 }));
}

#[test]
fn what_stays_fails_at_once_and_what_may_pass_is_tried_again() {
    for trouble in [Trouble::Refused, Trouble::Auth, Trouble::Unsupported] {
        let end = End::Failed(trouble);
        let over = connected(100).lost(s(1), trouble, 0.5);
        assert_eq!(over, Some(Act::Over { end, rev: 1 }), "{trouble:?}");
    }
    let mut session = connected(600);
    let (mut now, mut tries) = (s(0), 0);
    let over = loop {
        assert_eq!(session.lost(now, Trouble::Unreachable, 0.5), None);
        now = session.due();
        match session.poll(now, 0) {
            Some(Act::Connect) => tries += 1,
            other => break other,
        }
    };
    let end = End::Failed(Trouble::Unreachable);
    assert_eq!((over, now), (Some(Act::Over { end, rev: 1 }), s(30)));
    assert!((4..20).contains(&tries), "{tries}");
}

#[test]
fn one_that_was_live_is_tried_until_its_lease_is_over() {
    let mut session = connected(600);
    session.live(s(1), 10);
    let (mut now, mut tries) = (s(100), 0);
    let over = loop {
        assert_eq!(session.lost(now, Trouble::Unreachable, 1.0), None);
        now = session.due();
        match session.poll(now, 10) {
            Some(Act::Connect) => tries += 1,
            other => break other,
        }
    };
    let end = End::Ended(Reason::Lease);
    assert_eq!((over, now), (Some(Act::Over { end, rev: 2 }), s(600)));
    assert!((40..80).contains(&tries), "{tries}");
}

#[test]
fn a_camera_that_stays_away_ends_what_was_live_and_fails_what_was_not() {
    let mut session = connected(600);
    session.live(s(1), 10);
    let mut now = s(100);
    let over = loop {
        assert_eq!(session.lost(now, Trouble::CameraDown, 0.3), None);
        now = session.due();
        match session.poll(now, 10) {
            Some(Act::Connect) => {}
            other => break other,
        }
    };
    let end = End::Ended(Reason::CameraLost);
    assert_eq!((over, now), (Some(Act::Over { end, rev: 2 }), s(160)));

    let mut session = connected(600);
    assert_eq!(session.lost(s(2), Trouble::CameraDown, 0.3), None);
    let end = End::Failed(Trouble::CameraDown);
    assert_eq!(session.poll(s(30), 0), Some(Act::Over { end, rev: 1 }));
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Live,
    Lost(Trouble, f64),
    Renew(u64),
    Stop(Reason),
}

fn step() -> impl Strategy<Value = Step> {
    let trouble = prop_oneof![
        8 => Just(Trouble::Unreachable),
        4 => Just(Trouble::Publisher),
        4 => Just(Trouble::CameraDown),
        1 => Just(Trouble::Auth),
    ];
    prop_oneof![
        8 => (1u64..40_000).prop_map(Step::Wait),
        6 => Just(Step::Live),
        6 => (trouble, 0.0..1.0f64).prop_map(|(t, r)| Step::Lost(t, r)),
        1 => (0u64..400_000).prop_map(Step::Renew),
        1 => prop_oneof![Just(Reason::Stopped), Just(Reason::Unclaimed), Just(Reason::Shutdown)]
            .prop_map(Step::Stop),
    ]
}

proptest! {
    /// Driven as the task drives it (looked at whenever something is due): one end, in time, and silence after it.
    #[test]
    fn whatever_happens_it_ends_once_and_in_time(
        lease in 1u64..400_000, steps in proptest::collection::vec(step(), 0..120)
    ) {
        let ms = |n: u64| Mono(n * 1_000_000);
        let mut now = ms(1_000);
        let mut until = now + Duration::from_millis(lease);
        let mut session = Session::new(now, until);
        let (mut ends, mut rev, mut bytes, mut connects) = (0, 0, 0u64, Vec::new());
        let mut acts = Vec::new();
        let last = Step::Wait(1_000_000);
        for step in steps.into_iter().chain([last]) {
            match step {
                Step::Wait(time) => {
                    let target = now + Duration::from_millis(time);
                    while !session.is_over() && session.due() <= target {
                        now = now.max(session.due());
                        bytes += 1;
                        let act = session.poll(now, bytes);
                        acts.extend(act.map(|a| (now, a)));
                        prop_assert!(act.is_some() || session.due() > now, "it would spin at {now:?}: {session:?}");
                    }
                    now = target;
                }
                Step::Live => acts.extend(session.live(now, bytes).map(|a| (now, a))),
                Step::Lost(t, r) => acts.extend(session.lost(now, t, r).map(|a| (now, a))),
                Step::Renew(time) if !session.is_over() => {
                    until = now + Duration::from_millis(time);
                    session.renew(until);
                }
                Step::Renew(_) => {}
                Step::Stop(reason) => acts.extend(session.stop(reason).map(|a| (now, a))),
            }
        }
        for (at, act) in acts {
            prop_assert_eq!(ends, 0, "something after the end");
            let told = match act {
                Act::Connect => {
                    connects.push(at);
                    continue;
                }
                Act::TellLive { rev } => rev,
                Act::Over { rev, .. } => {
                    ends += 1;
                    prop_assert!(at <= until);
                    rev
                }
            };
            prop_assert_eq!(told, rev + 1);
            rev = told;
        }
        prop_assert_eq!(ends, 1);
        // A server that is hammered by a device: never more than twice a second.
        for pair in connects.windows(2) {
            prop_assert!(pair[1].since(pair[0]) >= Duration::from_millis(500));
        }
    }
}
