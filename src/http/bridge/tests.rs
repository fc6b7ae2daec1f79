use std::sync::mpsc as std_mpsc;

use super::*;
use crate::http::permits::Permits;
use crate::http::running::Engines;
use crate::http::standing::Standing;

fn engines() -> Engines {
    Engines::new(|| Ok(1))
}

fn job(engines: &Engines) -> (Job, Interrupt) {
    job_while(engines, Standing::new(|| Ok(())))
}

fn job_while(engines: &Engines, standing: Standing) -> (Job, Interrupt) {
    let running = engines.enter(standing).unwrap();
    let interrupt = running.interrupt().clone();
    let job = Job {
        running,
        permit: None,
        goes_on_after: None,
    };
    (job, interrupt)
}

async fn rest(stream: &mut Stream) -> (Vec<u8>, Result<(), BrokenOff>) {
    let mut all = Vec::new();
    loop {
        match std::future::poll_fn(|cx| stream.poll_next(cx)).await {
            Some(Ok(bytes)) => all.extend_from_slice(&bytes),
            Some(Err(error)) => return (all, Err(error)),
            None => return (all, Ok(())),
        }
    }
}

fn streamed(answer: Result<Answer, HttpError>) -> Pin<Box<Stream>> {
    match answer {
        Ok(Answer::Streamed(stream)) => stream,
        Ok(Answer::Whole(bytes)) => panic!("whole: {bytes:?}"),
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_small_answer_is_whole_at_once() {
    let (job, _) = job(&engines());
    match run(job, |out| Ok(out.write_all(b"0000")?)).await.unwrap() {
        Answer::Whole(bytes) => assert_eq!(bytes, "0000"),
        Answer::Streamed(_) => panic!("one chunk needs no stream"),
    }
}

#[tokio::test]
async fn a_large_answer_arrives_in_order_and_ends_cleanly() {
    let (job, _) = job(&engines());
    let expected: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = expected.clone();
    let answer = run(job, move |out| {
        for piece in sent.chunks(65_519) {
            out.write_all(piece)?;
        }
        Ok(())
    });
    let (got, end) = rest(&mut streamed(answer.await)).await;
    assert_eq!(end, Ok(()));
    assert!(got == expected, "{} bytes came", got.len());
}

#[tokio::test]
async fn flushed_bytes_do_not_wait_for_more() {
    let (job, _) = job(&engines());
    let (go_on, wait) = std_mpsc::channel::<()>();
    let answer = run(job, move |out| {
        out.write_all(b"progress")?;
        out.flush()?;
        wait.recv().unwrap();
        Ok(())
    });
    let mut stream = streamed(answer.await);
    let first = std::future::poll_fn(|cx| stream.poll_next(cx)).await;
    assert_eq!(first, Some(Ok(Bytes::from_static(b"progress"))));
    go_on.send(()).unwrap();
    assert_eq!(rest(&mut stream).await, (Vec::new(), Ok(())));
}

#[tokio::test]
async fn an_engine_that_fails_before_its_first_byte_gets_an_error_response() {
    let (job, _) = job(&engines());
    let answer = run(job, |out| {
        out.write_all(b"never seen")?;
        Err(HttpError::not_found())
    });
    assert_eq!(answer.await.err().map(|error| error.status().as_u16()), Some(404));
}

#[tokio::test]
async fn an_engine_that_fails_later_breaks_the_answer_off() {
    let (job, _) = job(&engines());
    let answer = run(job, |out| {
        out.write_all(b"PACK")?;
        out.flush()?;
        out.write_all(b"half of")?;
        Err(HttpError::internal("disk"))
    });
    let (got, end) = rest(&mut streamed(answer.await)).await;
    assert_eq!((got.as_slice(), end), (&b"PACK"[..], Err(BrokenOff)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_breaks_off_when_its_last_words_are_out_or_not_taken() {
    let (job, _) = job(&engines());
    let answer = run(job, |out| {
        out.write_all(b"last words")?;
        out.flush()?;
        Err(HttpError::internal("disk"))
    });
    let mut stream = streamed(answer.await);
    let words = std::future::poll_fn(|cx| stream.poll_next(cx)).await;
    let started = tokio::time::Instant::now();
    let mut end = tokio::spawn(async move {
        let end = std::future::poll_fn(|cx| stream.poll_next(cx)).await;
        (end, stream.is_over(), stream.is_whole())
    });
    assert!(
        timeout(LAST_WORDS_MAX / 2, &mut end).await.is_err(),
        "what hyper still holds is not thrown away"
    );
    drop(words);
    assert_eq!(end.await.unwrap(), (Some(Err(BrokenOff)), true, false));
    assert_eq!(started.elapsed(), LAST_WORDS_MAX / 2 + LAST_WORDS_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_the_last_words_does_not_keep_the_answer() {
    let (job, _) = job(&engines());
    let answer = run(job, |out| {
        out.write_all(b"last words")?;
        out.flush()?;
        Err(HttpError::internal("disk"))
    });
    let mut stream = streamed(answer.await);
    let _held = std::future::poll_fn(|cx| stream.poll_next(cx)).await;
    let started = tokio::time::Instant::now();
    let end = std::future::poll_fn(|cx| stream.poll_next(cx)).await;
    assert_eq!(end, Some(Err(BrokenOff)));
    assert_eq!(started.elapsed(), LAST_WORDS_MAX + LAST_WORDS_PAUSE);
}

/// A question that is answered with no from the moment on at which the other end is dropped.
fn until_dropped() -> (Standing, Arc<()>) {
    let held = Arc::new(());
    let question = Arc::downgrade(&held);
    let standing = Standing::new(move || match question.strong_count() {
        0 => Err(HttpError::forbidden("No more.")),
        _ => Ok(()),
    });
    (standing, held)
}

#[tokio::test]
async fn an_engine_that_waits_for_its_client_is_woken_by_a_cut_and_has_a_last_word() {
    let engines = engines();
    let permits = Permits::new(1, 0);
    let (standing, held) = until_dropped();
    let (mut job, interrupt) = job_while(&engines, standing);
    job.permit = Some(permits.acquire(Duration::ZERO).await.unwrap());
    let seen = interrupt.clone();
    let answer = run(job, move |out| {
        let piece = vec![b'x'; CHUNK_BYTES];
        while !seen.is_triggered() {
            out.write_all(&piece)?;
        }
        out.write_all(seen.reason().unwrap().as_bytes())?;
        out.flush()?;
        Err(HttpError::internal("interrupted"))
    });
    let mut stream = streamed(answer.await);
    drop(held);
    // The client takes nothing until the engine is gone.
    engines.idle().await;
    assert_eq!(permits.running(), 0, "a transfer that was cut leaves its place");
    let (got, end) = rest(&mut stream).await;
    assert_eq!(end, Err(BrokenOff));
    assert!(got.ends_with(b"xNo more."), "{} bytes", got.len());
    assert!(
        got.len() <= (CHUNKS_QUEUED_MAX + 2) * CHUNK_BYTES,
        "{} bytes",
        got.len()
    );
}

#[tokio::test]
async fn the_answer_to_a_push_that_was_cut_comes_at_once_and_ends_with_its_request() {
    let engines = engines();
    let (standing, held) = until_dropped();
    let (mut job, interrupt) = job_while(&engines, standing);
    let request = Arrival::default();
    job.goes_on_after = Some(request.clone());
    drop(held);
    let answer = run(job, move |out| {
        while !interrupt.is_triggered() {
            std::thread::yield_now();
        }
        Ok(out.write_all(b"ng refs/heads/main No more.")?)
    });
    let mut stream = streamed(answer.await);
    let report = std::future::poll_fn(|cx| stream.poll_next(cx)).await;
    assert_eq!(
        report,
        Some(Ok(Bytes::from_static(b"ng refs/heads/main No more.")))
    );
    let end = rest(&mut stream);
    let mut end = std::pin::pin!(end);
    assert!(std::future::poll_fn(|cx| Poll::Ready(end.as_mut().poll(cx).is_pending())).await);
    request.give_up();
    assert_eq!(end.await, (Vec::new(), Ok(())));
}

#[tokio::test]
async fn an_engine_that_goes_on_after_a_cut_fills_no_memory() {
    let engines = engines();
    let (standing, held) = until_dropped();
    let (job, _) = job_while(&engines, standing);
    let answer = run(job, move |out| {
        loop {
            out.write_all(&[b'x'; CHUNK_BYTES])?;
        }
    });
    let mut stream = streamed(answer.await);
    drop(held);
    engines.idle().await;
    let (got, end) = rest(&mut stream).await;
    assert_eq!(end, Err(BrokenOff));
    assert!(
        got.len() <= (CHUNKS_QUEUED_MAX + CHUNKS_AFTER_CUT_MAX) * CHUNK_BYTES,
        "{} bytes",
        got.len()
    );
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_ends_no_answer_cleanly() {
    let engines = engines();
    let (first, _) = job(&engines);
    let answer = run(first, |_| panic!("on purpose"));
    assert_eq!(answer.await.err().map(|error| error.status().as_u16()), Some(500));
    let (second, _) = job(&engines);
    let answer = run(second, |out| {
        out.write_all(b"x")?;
        out.flush()?;
        panic!("on purpose")
    });
    assert_eq!(rest(&mut streamed(answer.await)).await.1, Err(BrokenOff));
    engines.idle().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_stops_its_engine() {
    let engines = engines();
    let (job, interrupt) = job(&engines);
    let (tell, told) = std_mpsc::channel();
    let answer = run(job, move |out| {
        let piece = vec![7; CHUNK_BYTES];
        for n in 0..1000 {
            if out.write_all(&piece).is_err() {
                tell.send(n).unwrap();
                return Err(HttpError::internal("gone"));
            }
        }
        Ok(())
    });
    let stream = streamed(answer.await);
    drop(stream);
    assert!(interrupt.is_triggered());
    engines.idle().await;
    let written: usize = told.recv().unwrap();
    assert!(
        written <= CHUNKS_QUEUED_MAX + 2,
        "{written} chunks were made for nobody"
    );
}

#[tokio::test]
async fn a_whole_push_goes_on_without_its_client() {
    let engines = engines();
    let (mut job, interrupt) = job(&engines);
    let arrival = Arrival::arrived();
    job.goes_on_after = Some(arrival);
    let (go_on, wait) = std_mpsc::channel::<()>();
    let (tell, told) = std_mpsc::channel();
    let pending = tokio::spawn(run(job, move |out| {
        wait.recv().unwrap();
        for _ in 0..10 {
            out.write_all(&vec![1; CHUNK_BYTES])?;
        }
        tell.send("the refs moved").unwrap();
        Ok(())
    }));
    tokio::task::yield_now().await;
    pending.abort();
    let _aborted = pending.await;
    go_on.send(()).unwrap();
    engines.idle().await;
    assert_eq!(told.recv().unwrap(), "the refs moved");
    assert!(!interrupt.is_triggered());
}

#[tokio::test]
async fn a_permit_lives_as_long_as_the_answer() {
    let engines = engines();
    let permits = Permits::new(1, 0);
    let (mut job, _) = job(&engines);
    job.permit = Some(permits.acquire(Duration::ZERO).await.unwrap());
    let answer = run(job, |out| {
        out.write_all(b"x")?;
        out.flush()?;
        Ok(())
    });
    let stream = streamed(answer.await);
    engines.idle().await;
    assert_eq!(permits.running(), 1);
    drop(stream);
    assert_eq!(permits.running(), 0);
}
