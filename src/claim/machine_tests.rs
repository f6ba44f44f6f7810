use proptest::prelude::*;

use super::*;

fn s(n: u64) -> Mono {
    Mono((1000 + n) * 1_000_000_000)
}

fn created() -> Created {
    Created {
        id: Uuid::from_u128(7),
        token: Secret::new("token"),
        user_code: "WDJBMJHT".into(),
        verification_uri: "https://app.example/claim".parse().unwrap(),
        expires_in: Duration::from_secs(600),
        interval: Duration::from_secs(5),
    }
}

fn refused(code: &str) -> Failure {
    Failure::Refused {
        code: code.into(),
        detail: String::new(),
    }
}

fn poll() -> Option<Action> {
    Some(Action::Poll {
        claim: Uuid::from_u128(7),
        token: Secret::new("token"),
    })
}

fn confirm() -> Option<Action> {
    Some(Action::Confirm {
        claim: Uuid::from_u128(7),
    })
}

/// A window with a claim in it, opened at 0 s.
fn opened() -> Machine {
    let mut m = Machine::new(Base::Unclaimed);
    m.open(None, s(0)).unwrap();
    assert_eq!(m.poll(s(0)), Some(Action::Create { code: None }));
    m.created(Ok(created()), s(0));
    m
}

/// Credentials are on disk at 10 s.
fn stored() -> Machine {
    let mut m = opened();
    assert_eq!(m.poll(s(5)), poll());
    m.polled(
        Polled::Sealed {
            blob: vec![1],
            confirm_by: Some(Wall::from_unix_seconds(600)),
        },
        s(5),
    );
    let Some(Action::Store {
        claim, confirm_by, ..
    }) = m.poll(s(5))
    else {
        panic!("{m:?}");
    };
    m.stored(Ok(()), claim, confirm_by, s(10));
    m
}

#[test]
fn a_claim_from_press_to_owner() {
    let mut m = opened();
    assert_eq!(m.poll(s(4)), None);
    assert_eq!(m.deadline(), Some(s(5)));
    assert_eq!(m.view(s(4)).state, "open");
    assert_eq!(m.view(s(4)).user_code.as_deref(), Some("WDJB-MJHT"));
    let mut m = stored();
    assert_eq!(m.view(s(10)).state, "confirming");
    assert_eq!(m.poll(s(10)), confirm());
    m.confirmed(Confirmed::Active, None, s(11), 0.5);
    assert_eq!(m.poll(s(11)), Some(Action::Activate));
    m.activated(true, s(12));
    assert_eq!((m.view(s(12)).state, m.poll(s(12))), ("claimed", None));
    assert_eq!(m.deadline(), None);
}

#[test]
fn a_window_is_open_for_600_seconds_whatever_goes_on_in_it() {
    let mut m = opened();
    assert_eq!(m.poll(s(599)), poll());
    let before = m.generation();
    assert_eq!(m.deadline(), Some(s(600)));
    assert_eq!(m.poll(s(600)), None);
    assert_eq!(m.view(s(600)).last, Some(Ended::Timeout));
    assert_ne!(m.generation(), before, "the poll in flight is dropped");
    // An answer that comes all the same changes nothing.
    m.polled(
        Polled::Sealed {
            blob: vec![],
            confirm_by: None,
        },
        s(600),
    );
    assert_eq!((m.poll(s(600)), m.view(s(600)).state), (None, "unclaimed"));
    assert!(!m.wants_key());
}

#[test]
fn slow_down_and_failures_change_the_pace_only() {
    let mut m = opened();
    m.poll(s(5));
    m.polled(Polled::SlowDown, s(5));
    assert_eq!(m.deadline(), Some(s(15)));
    m.poll(s(15));
    m.polled(Polled::Failed(Failure::Later(None)), s(15));
    assert_eq!(m.deadline(), Some(s(16)));
    m.poll(s(16));
    let later = Failure::Later(Some(Duration::from_secs(30)));
    m.polled(Polled::Failed(later), s(16));
    assert_eq!(m.deadline(), Some(s(46)));
    m.poll(s(46));
    m.polled(Polled::Pending, s(46));
    assert_eq!(m.deadline(), Some(s(56)), "slower for good");
}

#[test]
fn refusals_end_it_at_once_and_nonsense_at_the_third_time() {
    for code in ["access_denied", "expired_token", "conflict", "license"] {
        let mut m = opened();
        m.poll(s(5));
        m.polled(Polled::Failed(refused(code)), s(6));
        let ended = m.view(s(6)).last;
        assert!(matches!(ended, Some(Ended::Refused { code: c, .. }) if c == code));
        let wait = Refusal::Wait(Duration::from_secs(300));
        assert_eq!(m.open(None, s(6)), Err(wait));
        assert_eq!(m.open(None, s(306)), Ok(()));
    }
    let mut m = opened();
    for n in 0..3 {
        assert!(m.is_open(), "{n}");
        assert_eq!(m.poll(s(20 * (n + 1))), poll());
        m.polled(Polled::Failed(Failure::Garbled), s(20 * (n + 1)));
    }
    assert_eq!(m.view(s(60)).last, Some(Ended::Errors));
}

#[test]
fn a_challenge_is_answered_once_and_only_in_its_time() {
    let mut m = opened();
    let challenge = |id: &str| Polled::Challenge {
        id: id.into(),
        window: Duration::from_secs(20),
    };
    m.presses(3, s(3));
    m.poll(s(5));
    assert!(m.polled(challenge("a"), s(5)));
    assert!(m.counts_presses());
    assert_eq!(m.view(s(5)).state, "challenge");
    // It goes on polling, and the same challenge does not begin anew.
    assert_eq!(m.poll(s(10)), poll());
    m.presses(4, s(11));
    assert!(!m.counts_presses());
    assert!(!m.polled(challenge("a"), s(12)));
    m.presses(9, s(12));
    let Some(Action::Answer {
        challenge: id,
        count,
        ..
    }) = m.poll(s(17))
    else {
        panic!("{m:?}")
    };
    assert_eq!((id.as_str(), count), ("a", 4));
    m.counted(Ok(()), s(17));
    assert_eq!(m.view(s(17)).state, "open");
    m.poll(s(22));
    assert!(!m.polled(challenge("a"), s(22)), "answered already");
    m.poll(s(27));
    assert!(m.polled(challenge("b"), s(27)), "a second try");
    assert_eq!(m.poll(s(46)), poll());
    m.polled(Polled::Pending, s(46));
    m.poll(s(47));
    assert!(!m.counts_presses(), "its time is over");
    m.presses(4, s(48));
    assert_eq!(m.view(s(48)).state, "open");
}

#[test]
fn a_code_given_later_goes_on_in_the_same_window() {
    let mut m = opened();
    let code = ClaimCode::parse("BCDF-GHJK").unwrap();
    m.poll(s(100));
    m.open(Some(code.clone()), s(100)).unwrap();
    let create = Action::Create { code: Some(code) };
    assert_eq!(m.poll(s(100)), Some(create));
    assert_eq!(m.view(s(100)).closes_in, Some(Duration::from_secs(500)));
    assert_eq!(m.open(None, s(101)), Err(Refusal::AlreadyOpen));
}

#[test]
fn an_owned_device_opens_a_window_only_when_its_key_is_lost() {
    let mut m = Machine::new(Base::Claimed { lost: false });
    assert_eq!(m.open(None, s(0)), Err(Refusal::Claimed));
    m.key_lost(true);
    assert_eq!(m.open(None, s(0)), Ok(()));
    m.poll(s(0));
    m.created(Err(refused("owned")), s(1));
    assert_eq!(m.view(s(1)).state, "claimed", "it stays its owner's");
    m.unclaimed(s(2));
    assert_eq!(m.base(), Base::Unclaimed);
}

#[test]
fn a_confirm_is_repeated_until_the_cloud_speaks() {
    let mut m = stored();
    let wall = |n| Some(Wall::from_unix_seconds(n));
    // Long after the window: its time does not count any more.
    let mut at = 10;
    for (answer, known) in [
        (Confirmed::Later(None), wall(0)),
        (Confirmed::Later(Some(Duration::from_secs(900))), wall(0)),
        (Confirmed::UnknownKey, wall(600)),
        (Confirmed::Later(None), wall(9999)),
        (Confirmed::Later(None), None),
    ] {
        assert_eq!(m.poll(s(at)), confirm());
        m.confirmed(answer, known, s(at), 1.0);
        at += 901;
        assert_eq!(m.view(s(at)).state, "confirming");
    }
    let mut active = m.clone();
    active.poll(s(at));
    active.confirmed(Confirmed::Active, None, s(at), 0.0);
    active.poll(s(at));
    active.activated(false, s(at));
    assert_eq!(active.poll(s(at + 1)), None);
    assert_eq!(active.poll(s(at + 5)), Some(Action::Activate));
    for void in [Confirmed::Void, Confirmed::UnknownKey] {
        let mut m = m.clone();
        m.poll(s(at));
        m.confirmed(void, wall(700), s(at), 0.0);
        assert_eq!(m.poll(s(at)), Some(Action::Discard));
        m.discarded(true, s(at));
        assert_eq!(m.view(s(at)).last, Some(Ended::NotConfirmed));
        assert_eq!(m.base(), Base::Unclaimed);
    }
}

#[test]
fn a_claim_on_disk_at_start_is_confirmed_before_anything_else() {
    let mut m = Machine::new(Base::Unclaimed);
    m.resume(Uuid::from_u128(7), None, s(0));
    assert_eq!(m.open(None, s(0)), Err(Refusal::Confirming));
    assert_eq!(m.poll(s(0)), confirm());
}

#[test]
fn what_does_not_open_ends_the_window() {
    let mut m = opened();
    m.poll(s(5));
    m.polled(
        Polled::Sealed {
            blob: vec![],
            confirm_by: None,
        },
        s(5),
    );
    assert!(m.wants_key());
    m.poll(s(5));
    let bad = Ended::BadCredentials("does not open");
    m.stored(Err(bad.clone()), Uuid::nil(), None, s(6));
    assert_eq!(m.view(s(6)).last, Some(bad));
    assert!(!m.wants_key() && m.poll(s(900)).is_none());
}

#[derive(Debug, Clone)]
enum Input {
    Open(bool),
    Result(u8),
    Presses(u8),
    Lost(bool),
    Unclaimed,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        2 => any::<bool>().prop_map(Input::Open),
        12 => (0u8..9).prop_map(Input::Result),
        2 => (0u8..12).prop_map(Input::Presses),
        1 => any::<bool>().prop_map(Input::Lost),
        1 => Just(Input::Unclaimed),
    ]
}

/// Tells the machine some result of what it asked for.
fn answer(m: &mut Machine, action: &Action, n: u8, now: Mono) {
    let failure = match n % 3 {
        0 => Failure::Later(None),
        1 => Failure::Garbled,
        _ => refused("x"),
    };
    match action {
        Action::Create { .. } if n < 6 => m.created(Ok(created()), now),
        Action::Create { .. } => m.created(Err(failure), now),
        Action::Poll { .. } => {
            let polled = match n {
                0..3 => Polled::Pending,
                3 => Polled::SlowDown,
                4 => Polled::Challenge {
                    id: now.0.to_string(),
                    window: Duration::from_secs(20),
                },
                5 | 6 => Polled::Sealed {
                    blob: vec![],
                    confirm_by: None,
                },
                _ => Polled::Failed(failure),
            };
            m.polled(polled, now);
        }
        Action::Answer { .. } => m.counted(if n < 6 { Ok(()) } else { Err(failure) }, now),
        Action::Store { claim, .. } => {
            let result = if n < 7 { Ok(()) } else { Err(Ended::NotStored) };
            m.stored(result, *claim, None, now);
        }
        Action::Confirm { .. } => {
            let result = match n {
                0..3 => Confirmed::Active,
                3..5 => Confirmed::Later(None),
                5 => Confirmed::Resign,
                6 => Confirmed::UnknownKey,
                _ => Confirmed::Void,
            };
            m.confirmed(result, None, now, 0.3);
        }
        Action::Activate => m.activated(n < 7, now),
        Action::Discard => m.discarded(n < 7, now),
    }
}

/// What has to be on disk, and what the cloud said.
#[derive(Debug, Default)]
struct Disk {
    pending: bool,
    confirmed: bool,
    current: bool,
}

impl Disk {
    fn change(&mut self, action: &Action, n: u8) {
        match action {
            Action::Store { .. } => self.pending = n < 7,
            Action::Confirm { .. } if n < 3 => self.confirmed = true,
            Action::Activate if n < 7 => {
                *self = Disk {
                    current: true,
                    ..Disk::default()
                }
            }
            Action::Discard if n < 7 => (self.pending, self.confirmed) = (false, false),
            _ => {}
        }
    }
}

proptest! {
    /// Whatever comes in whatever order: what is on disk is exactly claimed, pending or nothing, each reached only by
    /// its own way, and nothing is asked of the cloud outside a window.
    #[test]
    fn nothing_leads_between_claimed_and_unclaimed(inputs in proptest::collection::vec((input(), 0u64..200), 1..200)) {
        let mut m = Machine::new(Base::Unclaimed);
        let mut disk = Disk::default();
        let mut opened_at = None;
        let mut windows = Vec::new();
        let mut now = 0;
        let mut asked: Option<(Action, u64)> = None;
        for (input, later) in inputs {
            now += later;
            if asked.is_none() && let Some(action) = m.poll(s(now)) {
                match &action {
                    Action::Create { .. } | Action::Poll { .. } | Action::Answer { .. } => {
                        let opened = opened_at.expect("a window was opened");
                        prop_assert!(now - opened < 600, "asked outside the window");
                    }
                    Action::Store { .. } => prop_assert!(m.wants_key()),
                    Action::Confirm { .. } | Action::Discard => prop_assert!(disk.pending),
                    Action::Activate => prop_assert!(disk.pending && disk.confirmed),
                }
                asked = Some((action, m.generation()));
            }
            match input {
                Input::Open(code) => {
                    let code = code.then(|| ClaimCode::parse("BCDFGHJK").unwrap());
                    let was_open = m.is_open();
                    if m.open(code, s(now)).is_ok() && !(was_open && m.is_open() && opened_at.is_some_and(|o| now - o < 600)) {
                        let lost = m.base() == Base::Claimed { lost: true };
                        prop_assert!(!disk.pending && (!disk.current || lost));
                        opened_at = Some(now);
                        windows.push(now);
                    }
                }
                Input::Presses(n) => m.presses(n, s(now)),
                Input::Lost(lost) => m.key_lost(lost),
                Input::Unclaimed => {
                    m.unclaimed(s(now));
                    disk = Disk::default();
                }
                Input::Result(n) => {
                    if let Some((action, _)) = asked.take() {
                        disk.change(&action, n);
                        if disk.current {
                            windows.clear();
                        }
                        answer(&mut m, &action, n, s(now));
                    }
                }
            }
            if asked.as_ref().is_some_and(|(_, generation)| *generation != m.generation()) {
                asked = None;
            }
            prop_assert_eq!(disk.current, m.base() != Base::Unclaimed);
            // Nothing waits for ever: there is something to do, a deadline, or rest.
            if asked.is_none() && m.deadline().is_none() {
                let state = m.view(s(now)).state;
                prop_assert!(matches!(state, "unclaimed" | "claimed" | "confirming"), "{}", state);
            }
        }
        for four in windows.windows(4) {
            prop_assert!(four[3] - four[0] >= 3600);
        }
    }
}
