use std::sync::mpsc::{self, Receiver, Sender};

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::store::{AuditAction, AuditFilter, DATABASE_FILE};

/// What one transaction would have held: ids of tokens and subjects of events.
type Batch = (Vec<String>, Vec<String>);

/// A store that does nothing by itself: each batch is shown, then waits for its outcome.
struct Hand {
    batches: Receiver<Batch>,
    outcomes: Sender<bool>,
}

impl Hand {
    fn next(&self) -> Batch {
        self.batches.recv().unwrap()
    }

    fn answer(&self, succeeds: bool) {
        self.outcomes.send(succeeds).unwrap();
    }
}

fn failure() -> store::Error {
    store::Error::Corrupt("nothing, but something else")
}

const NO_TIME: Waits = Waits {
    room_max: Duration::ZERO,
    write_max: Duration::ZERO,
};

/// Long enough for a test to fail by what it asserts.
const ALL_TIME: Waits = Waits {
    room_max: Duration::from_secs(60),
    write_max: Duration::from_secs(60),
};

fn by_hand(waits: Waits) -> (Recorder, Hand) {
    let (shown, batches) = mpsc::channel();
    let (outcomes, answers) = mpsc::channel();
    let ends = Mutex::new((shown, answers));
    let sink = move |uses: &[TokenUse], events: &[NewAuditEvent]| {
        let uses = uses.iter().map(|used| used.id.to_string()).collect();
        let events = events.iter().map(|event| event.subject.clone()).collect();
        let ends = ends.lock().unwrap();
        // A test that has dropped its ends lets everything pass.
        drop(ends.0.send((uses, events)));
        if ends.1.recv().unwrap_or(true) {
            Ok(())
        } else {
            Err(failure())
        }
    };
    (
        Recorder::start_with(Box::new(sink), waits),
        Hand { batches, outcomes },
    )
}

fn used(id: &str) -> TokenUse {
    TokenUse {
        id: id.parse().unwrap(),
        at: Timestamp::now(),
        from: [127, 0, 0, 1].into(),
        with: None,
        purpose: "fetch C/P/R".to_owned(),
    }
}

fn event(subject: &str) -> NewAuditEvent {
    NewAuditEvent {
        at: Timestamp::now(),
        actor: Actor::Server,
        action: AuditAction::GitPush,
        subject: subject.to_owned(),
        details: json!({}),
    }
}

fn subjects(subjects: &[&str]) -> Vec<String> {
    subjects.iter().map(|subject| (*subject).to_owned()).collect()
}

#[test]
fn what_gathers_while_the_store_is_busy_is_written_together() {
    let (recorder, hand) = by_hand(ALL_TIME);
    recorder.record(event("first"));
    assert_eq!(hand.next(), (vec![], subjects(&["first"])));
    recorder.record(event("second"));
    assert!(recorder.record_use(used("AAAAAAAA")));
    recorder.record(event("third"));
    hand.answer(true);
    assert_eq!(
        hand.next(),
        (subjects(&["AAAAAAAA"]), subjects(&["second", "third"])),
        "in the order in which they came"
    );
    hand.answer(true);
    recorder.flush();
    assert_eq!(recorder.lost_count(), 0);
}

#[test]
fn whoever_waits_hears_whether_its_event_is_on_disk() {
    let (recorder, hand) = by_hand(ALL_TIME);
    let send = |subject: &'static str| {
        let recorder = recorder.clone();
        std::thread::spawn(move || recorder.record_durably(event(subject)))
    };
    let first = send("first");
    assert_eq!(hand.next().1, ["first"]);
    let second = send("second");
    assert!(!first.is_finished(), "nobody hears of it before it is written");
    hand.answer(true);
    assert!(first.join().unwrap());
    assert_eq!(hand.next().1, ["second"]);
    hand.answer(false);
    assert!(!second.join().unwrap());
    assert_eq!(recorder.lost_count(), 1);
    let third = send("third");
    assert_eq!(hand.next().1, ["third"]);
    hand.answer(true);
    assert!(third.join().unwrap(), "a store that works again is used again");
}

#[test]
fn an_event_waits_for_room_and_a_use_does_not() {
    let (recorder, hand) = by_hand(ALL_TIME);
    recorder.record(event("busy"));
    hand.next();
    for _ in 0..EVENTS_COUNT_MAX {
        recorder.record(event("queued"));
    }
    for _ in 0..USES_COUNT_MAX {
        assert!(recorder.record_use(used("AAAAAAAA")));
    }
    assert!(!recorder.record_use(used("BBBBBBBB")));
    let late = std::thread::spawn({
        let recorder = recorder.clone();
        move || recorder.record(event("late"))
    });
    hand.answer(true);
    let (uses, events) = hand.next();
    assert_eq!((uses.len(), events.len()), (USES_COUNT_MAX, EVENTS_COUNT_MAX));
    late.join().unwrap();
    hand.answer(true);
    assert_eq!(hand.next().1, ["late"]);
    hand.answer(true);
    recorder.flush();
    assert_eq!(recorder.lost_count(), 0);
}

#[test]
fn a_queue_that_stays_full_loses_events_and_counts_them() {
    let (recorder, hand) = by_hand(NO_TIME);
    recorder.record(event("busy"));
    hand.next();
    for _ in 0..EVENTS_COUNT_MAX {
        recorder.record(event("queued"));
    }
    recorder.record(event("too many"));
    assert!(!recorder.record_durably(event("too many")));
    assert_eq!(recorder.lost_count(), 2);
}

#[test]
fn large_events_fill_the_queue_sooner_and_one_always_fits() {
    let (recorder, hand) = by_hand(NO_TIME);
    let large = |bytes: usize| NewAuditEvent {
        details: json!({ "refs": ["x".repeat(bytes)] }),
        ..event("large")
    };
    recorder.record(event("busy"));
    hand.next();
    recorder.record(large(2 * EVENTS_BYTES_MAX));
    recorder.record(event("no room"));
    assert_eq!(recorder.lost_count(), 1);
    hand.answer(true);
    assert_eq!(hand.next().1, ["large"]);
    recorder.record(large(EVENTS_BYTES_MAX / 2));
    recorder.record(event("room"));
    assert_eq!(recorder.lost_count(), 1);
}

#[test]
fn nobody_waits_without_end_for_a_store_that_hangs() {
    let (recorder, hand) = by_hand(NO_TIME);
    assert!(!recorder.record_durably(event("slow")));
    assert_eq!(recorder.lost_count(), 0, "it may still be written");
    hand.next();
    hand.answer(true);
    recorder.flush();
    assert_eq!(recorder.lost_count(), 0);
}

#[test]
fn a_store_that_panics_loses_its_batch_and_no_more() {
    let sink = |_: &[TokenUse], events: &[NewAuditEvent]| {
        assert!(events.iter().all(|event| event.subject != "bad"), "as intended");
        Ok(())
    };
    let recorder = Recorder::start_with(Box::new(sink), ALL_TIME);
    assert!(!recorder.record_durably(event("bad")));
    assert!(recorder.record_durably(event("good")));
    assert_eq!(recorder.lost_count(), 1);
}

#[test]
fn what_is_queued_is_written_before_the_end_and_what_comes_later_by_its_sender() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE_FILE);
    let store = Store::open(&path).unwrap();
    let recorder = Recorder::start(store);
    for number in 0..100 {
        recorder.record(event(&format!("{number}")));
    }
    recorder.stop();
    let elsewhere = Store::open(&path).unwrap();
    let count = || elsewhere.audit_events(&AuditFilter::latest(1000)).unwrap().len();
    assert_eq!(count(), 100);
    recorder.record(event("later"));
    assert_eq!(count(), 101);
    assert!(recorder.record_durably(event("last")));
    assert_eq!(count(), 102);
    assert!(!recorder.record_use(used("AAAAAAAA")));
    recorder.stop();
}

#[test]
fn a_durable_event_is_seen_by_others_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE_FILE);
    let recorder = Recorder::start(Store::open(&path).unwrap());
    let elsewhere = Store::open(&path).unwrap();
    std::thread::scope(|scope| {
        for sender in 0..8 {
            let (recorder, elsewhere) = (&recorder, &elsewhere);
            scope.spawn(move || {
                for number in 0..10 {
                    let subject = format!("{sender}/{number}");
                    assert!(recorder.record_durably(event(&subject)));
                    let all = elsewhere.audit_events(&AuditFilter::latest(1000)).unwrap();
                    assert!(all.iter().any(|event| event.subject == subject), "{subject}");
                }
            });
        }
    });
}

#[test]
fn a_recorder_that_is_let_go_of_writes_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE_FILE);
    let recorder = Recorder::start(Store::open(&path).unwrap());
    recorder.record(event("only"));
    drop(recorder);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.audit_events(&AuditFilter::latest(9)).unwrap().len(), 1);
}

#[test]
fn what_another_process_keeps_from_being_written_is_written_when_it_lets_go() {
    let (shown, tries) = mpsc::channel();
    let (let_go, answers) = mpsc::channel();
    let ends = Mutex::new((shown, answers));
    let sink = move |uses: &[TokenUse], events: &[NewAuditEvent]| {
        let ends = ends.lock().unwrap();
        ends.0.send((uses.len(), events.len())).unwrap();
        match ends.1.recv().unwrap() {
            true => Ok(()),
            false => Err(store::Error::busy()),
        }
    };
    let recorder = Recorder::start_with(Box::new(sink), ALL_TIME);
    let waiting = std::thread::spawn({
        let recorder = recorder.clone();
        move || recorder.record_durably(event("push"))
    });
    assert_eq!(tries.recv().unwrap(), (0, 1));
    assert!(recorder.record_use(used("AAAAAAAA")));
    for is_free in [false, false, true] {
        let_go.send(is_free).unwrap();
        if !is_free {
            assert_eq!(tries.recv().unwrap(), (0, 1), "the same once more");
        }
    }
    assert!(waiting.join().unwrap());
    assert_eq!(tries.recv().unwrap(), (1, 0), "what came meanwhile follows");
    let_go.send(true).unwrap();
    recorder.flush();
    assert_eq!(recorder.lost_count(), 0);
}

#[test]
fn a_database_that_stays_locked_costs_what_finds_no_room_and_does_not_keep_the_recorder_from_ending() {
    let sink = |_: &[TokenUse], _: &[NewAuditEvent]| Err(store::Error::busy());
    let recorder = Recorder::start_with(Box::new(sink), NO_TIME);
    let kept_max = u64::try_from(2 * EVENTS_COUNT_MAX).unwrap();
    for _ in 0..kept_max + 10 {
        recorder.record(event("push"));
    }
    let lost = recorder.lost_count();
    assert!((10..kept_max).contains(&lost), "{lost}");
    recorder.stop();
    assert_eq!(recorder.lost_count(), kept_max + 10);
}
