use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::redis::resp::{argument as argument_of, command};

const PATIENCE: Duration = Duration::from_secs(10);

/// A wire whose server is the test.
struct Scene {
    wire: Wire,
    server: DuplexStream,
    driver: JoinHandle<()>,
}

impl Scene {
    fn new() -> Self {
        Self::with_room(1 << 20)
    }

    fn with_room(bytes: usize) -> Self {
        let (client, server) = duplex(bytes);
        let (wire, driver) = Wire::new(client);
        Self { wire, server, driver: tokio::spawn(driver) }
    }

    /// A wire whose task has met the end of the room while it wrote a command.
    async fn stuck() -> (Self, Asked<Value>) {
        let scene = Self::with_room(64);
        let stuck = scene.ask_large().await;
        (scene, stuck)
    }

    async fn ask_large(&self) -> Asked<Value> {
        let large = self.ask(&"x".repeat(10_000));
        advance(Duration::from_millis(1)).await;
        large
    }

    fn ask(&self, name: &str) -> Asked<Value> {
        self.wire.ask(|out| command(out, &[name.as_bytes()])).unwrap()
    }

    fn ask_within(&self, name: &str, millis: u64) -> Asked<Value> {
        let deadline = Instant::now() + Duration::from_millis(millis);
        self.wire.read(deadline, |out| command(out, &[name.as_bytes()])).unwrap()
    }

    fn ask_many(&self, names: &[&str]) -> Asked<Vec<Value>> {
        let mut commands = Commands::default();
        names.iter().for_each(|name| commands.add(&[name.as_bytes()]));
        self.wire.ask_many(&commands).unwrap()
    }

    async fn reply(&mut self, bytes: &str) {
        self.server.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads until this many commands have come.
    async fn receive(&mut self, commands: usize) {
        let (mut got, mut bytes) = (0, [0]);
        while got < commands {
            self.server.read_exact(&mut bytes).await.unwrap();
            got += usize::from(bytes == *b"*");
        }
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("nothing came")
}

fn text(text: &str) -> Result<Value, Cut> {
    Ok(Value::Text(text.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_commands_however_they_are_cut() {
    let replies = "+a\r\n$3\r\nb\r\n\r\n*2\r\n:1\r\n$-1\r\n-ERR c\r\n+d\r\n";
    for cut in 1..replies.len() {
        let mut scene = Scene::new();
        let (one, many, last) = (scene.ask("A"), scene.ask_many(&["B", "C", "D"]), scene.ask("E"));
        scene.receive(5).await;
        scene.reply(&replies[..cut]).await;
        tokio::task::yield_now().await;
        scene.reply(&replies[cut..]).await;
        assert_eq!(soon(one).await, text("a"));
        let array = Value::Array(vec![Value::Int(1), Value::Nil]);
        let three = vec![Value::Bulk((&b"b\r\n"[..]).into()), array, Value::Error("ERR c".to_owned())];
        assert_eq!(soon(many).await, Ok(three), "cut at {cut}");
        assert_eq!(soon(last).await, text("d"));
        assert_eq!(scene.wire.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_went_away_leave_their_answers_in_place() {
    let mut scene = Scene::new();
    let (one, two, three) = (scene.ask("A"), scene.ask_many(&["B", "C"]), scene.ask("D"));
    drop(one);
    scene.receive(4).await;
    scene.reply("+a\r\n+b\r\n").await;
    drop(two);
    scene.reply("+c\r\n+d\r\n").await;
    assert_eq!(soon(three).await, text("d"));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_nobody_elses() {
    let mut scene = Scene::new();
    let start = Instant::now();
    let late = scene.ask_within("A", 50);
    assert_eq!(soon(late).await, Err(Cut::TimedOut));
    let waited = start.elapsed().as_millis();
    assert!((50..=52).contains(&waited), "{waited} ms");
    let next = scene.ask_within("B", 50);
    scene.receive(2).await;
    scene.reply("+a\r\n").await;
    scene.reply("+b\r\n").await;
    assert_eq!(soon(next).await, text("b"));
    assert!(!scene.wire.has_ended());
}

#[tokio::test(start_paused = true)]
async fn each_command_has_its_own_deadline() {
    let mut scene = Scene::new();
    let start = Instant::now();
    let mut waits = Vec::new();
    for millis in [50, 10, 30, 30, 500] {
        let asked = scene.ask_within("A", millis);
        scene.receive(1).await;
        waits.push(tokio::spawn(async move { (millis, asked.await, start.elapsed().as_millis()) }));
    }
    let patient = scene.ask("A");
    for wait in waits {
        let (millis, answer, waited) = soon(wait).await.unwrap();
        assert_eq!(answer, Err(Cut::TimedOut));
        assert!((u128::from(millis)..=u128::from(millis) + 2).contains(&waited), "{waited} ms for {millis}");
    }
    assert!(timeout(Duration::from_secs(60), patient).await.is_err(), "who names no deadline watches the time alone");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_while_nothing_can_be_written() {
    let (scene, _stuck) = Scene::stuck().await;
    assert_eq!(soon(scene.ask_within("A", 50)).await, Err(Cut::TimedOut));
    assert_eq!(soon(scene.ask_within("B", 50)).await, Err(Cut::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_not_written_yet_is_shared() {
    let mut scene = Scene::new();
    let (one, other, two) = (scene.ask_within("A", 50), scene.ask_within("B", 50), scene.ask_within("A", 50));
    let alone = scene.ask("A");
    assert_eq!(scene.wire.in_flight(), 3);
    scene.receive(3).await;
    // It is on its way, and may be answered from before who asks now.
    let late = scene.ask_within("A", 50);
    assert_eq!(scene.wire.in_flight(), 4);
    scene.receive(1).await;
    scene.reply("+a1\r\n+b\r\n+a2\r\n+a3\r\n").await;
    for (asked, answer) in [(one, "a1"), (other, "b"), (two, "a1"), (alone, "a2"), (late, "a3")] {
        assert_eq!(soon(asked).await, text(answer));
    }
    assert_eq!(scene.wire.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_read_has_a_deadline_and_an_end_of_its_own() {
    let mut scene = Scene::new();
    let start = Instant::now();
    let reads: Vec<_> = [50, 10, 30, 500].map(|millis| scene.ask_within("A", millis)).into();
    let [first, second, third, last] = reads.try_into().ok().unwrap();
    drop(first);
    for (asked, millis) in [(second, 10), (third, 30)] {
        assert_eq!(soon(asked).await, Err(Cut::TimedOut));
        let waited = start.elapsed().as_millis();
        assert!((millis..=millis + 2).contains(&waited), "{waited} ms for {millis}");
    }
    assert_eq!(scene.wire.in_flight(), 1);
    scene.receive(1).await;
    scene.reply("+a\r\n").await;
    assert_eq!(soon(last).await, text("a"));
    let two = (scene.ask_within("B", 50), scene.ask_within("B", 50));
    drop(scene.server);
    assert!(matches!(soon(two.0).await, Err(Cut::Closed(_))));
    assert!(matches!(soon(two.1).await, Err(Cut::Closed(_))));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_who_shares_a_read_holds_while_nothing_can_be_written() {
    let (scene, _stuck) = Scene::stuck().await;
    let _first = scene.ask_within("A", 500);
    // It has set its alarm.
    advance(Duration::from_millis(1)).await;
    let start = Instant::now();
    assert_eq!(soon(scene.ask_within("A", 10)).await, Err(Cut::TimedOut));
    let waited = start.elapsed().as_millis();
    assert!((10..=12).contains(&waited), "{waited} ms");
    assert_eq!(scene.wire.in_flight(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_read_is_compared_with_the_last_ones() {
    let mut scene = Scene::new();
    let names: Vec<_> = (0..1_000).map(|n| format!("A{n}")).collect();
    let reads: Vec<_> = names.iter().map(|name| scene.ask_within(name, 50)).collect();
    // One of the last, one of long ago, and the latter once more.
    let again = [&names[900], &names[0], &names[0]].map(|name| scene.ask_within(name, 50));
    assert_eq!(scene.wire.in_flight(), 1_001);
    scene.receive(1_001).await;
    let replies: String = (0..=1_000).map(|n| format!("+{n}\r\n")).collect();
    scene.reply(&replies).await;
    for (n, read) in reads.into_iter().enumerate() {
        assert_eq!(soon(read).await, text(&n.to_string()));
    }
    for (read, n) in again.into_iter().zip(["900", "1000", "1000"]) {
        assert_eq!(soon(read).await, text(n));
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_given_up_is_taken_up_while_it_is_not_written() {
    let (mut scene, stuck) = Scene::stuck().await;
    assert_eq!(soon(scene.ask_within("A", 50)).await, Err(Cut::TimedOut));
    let again = scene.ask_within("A", 50);
    assert_eq!(scene.wire.in_flight(), 2);
    scene.receive(2).await;
    scene.reply("+x\r\n+a\r\n").await;
    assert_eq!(soon(again).await, text("a"));
    assert_eq!(soon(stuck).await, text("x"));
    // Answers that nobody asked for take the place of those who wait, and nobody joins them there.
    let stuck = scene.ask_large().await;
    let robbed = scene.ask_within("A", 50);
    scene.reply("+x\r\n+?\r\n").await;
    assert_eq!((soon(stuck).await, soon(robbed).await), (text("x"), text("?")));
    let next = scene.ask_within("A", 50);
    scene.receive(3).await;
    scene.reply("+a\r\n").await;
    assert_eq!(soon(next).await, text("a"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_at_the_deadline_counts() {
    let mut scene = Scene::new();
    let asked = scene.ask_within("A", 50);
    scene.receive(1).await;
    // Nobody had a turn since the answer came, and the deadline passed meanwhile.
    scene.reply("+a\r\n").await;
    advance(Duration::from_millis(60)).await;
    assert_eq!(soon(asked).await, text("a"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_in_the_turn_of_the_deadline_counts() {
    let mut scene = Scene::new();
    let deadline = Instant::now() + Duration::from_millis(50);
    let asked = scene.wire.read(deadline, |out| command(out, &[b"A"])).unwrap();
    scene.receive(1).await;
    let answer = tokio::spawn(async move {
        sleep_until(deadline).await;
        tokio::task::yield_now().await;
        scene.reply("+a\r\n").await;
        scene
    });
    assert_eq!(soon(asked).await, text("a"));
    answer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_reply_ends_the_connection() {
    let deep = "*1\r\n".repeat(100);
    let endless = "+".repeat(100_000);
    for garbage in ["?\r\n", "$-2\r\n", "$2\r\nabcd", ":x\r\n", "*99999999999\r\n", "%1\r\n+a\r\n", &deep, &endless] {
        let mut scene = Scene::new();
        let (one, two) = (scene.ask("A"), scene.ask_many(&["B"]));
        scene.receive(2).await;
        scene.reply("+a\r\n").await;
        scene.reply(garbage).await;
        assert_eq!(soon(one).await, text("a"));
        assert_eq!(soon(two).await, Err(Cut::Malformed), "{garbage:.20}");
        soon(scene.driver).await.unwrap();
        assert!(scene.wire.has_ended());
        assert!(matches!(scene.wire.ask(|_| panic!("written all the same")), Err(Cut::Malformed)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_nobody_asked_for_ends_the_connection() {
    let mut scene = Scene::new();
    let asked = scene.ask("A");
    scene.receive(1).await;
    scene.reply("+a\r\n+b\r\n").await;
    assert_eq!(soon(asked).await, text("a"));
    soon(scene.driver).await.unwrap();
    assert!(scene.wire.has_ended());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_is_noticed_by_all() {
    let mut scene = Scene::new();
    let (one, two) = (scene.ask("A"), scene.ask_within("B", 50));
    scene.receive(2).await;
    drop(scene.server);
    assert!(matches!(soon(one).await, Err(Cut::Closed(_))));
    assert!(matches!(soon(two).await, Err(Cut::Closed(_))));
    assert!(scene.wire.has_ended());
}

#[tokio::test(start_paused = true)]
async fn too_many_commands_are_refused_until_answers_come() {
    let mut scene = Scene::new();
    let many = Commands { bytes: b"*1\r\n$1\r\nA\r\n".to_vec(), count: MAX_IN_FLIGHT + 1 };
    let many = scene.wire.ask_many(&many).unwrap();
    assert!(matches!(scene.wire.ask(|_| panic!("written all the same")), Err(Cut::Full)));
    scene.receive(1).await;
    scene.reply("+a\r\n").await;
    let again = async {
        while scene.wire.in_flight() > MAX_IN_FLIGHT {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
    scene.ask("B");
    drop(many);
    let scene = Scene::with_room(64);
    let large = "x".repeat(MAX_QUEUED);
    let _stuck = (scene.ask("A"), scene.ask(&large));
    assert!(matches!(scene.wire.ask(|_| panic!("written all the same")), Err(Cut::Full)));
}

#[tokio::test(start_paused = true)]
async fn a_wire_without_callers_serves_those_who_wait_and_ends() {
    let mut scene = Scene::new();
    let asked = scene.ask("A");
    drop(scene.wire);
    let mut bytes = [0; 11];
    scene.server.read_exact(&mut bytes).await.unwrap();
    assert!(!scene.driver.is_finished());
    scene.server.write_all(b"+a\r\n").await.unwrap();
    assert_eq!(soon(asked).await, text("a"));
    soon(scene.driver).await.unwrap();
    // A server that never answers keeps no connection open.
    for deadline in [None, Some(50)] {
        let scene = Scene::new();
        let asked = deadline.map_or_else(|| scene.ask("A"), |millis| scene.ask_within("A", millis));
        drop(scene.wire);
        // The task has seen that the callers' end is gone.
        advance(Duration::from_millis(1)).await;
        if deadline.is_some() {
            assert_eq!(soon(asked).await, Err(Cut::TimedOut));
        } else {
            drop(asked);
        }
        soon(scene.driver).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn large_answers_and_large_commands_arrive_whole() {
    let scene = Scene::with_room(1_000);
    let large = "x".repeat(3_000_000);
    let asked = scene.ask(&large);
    let (mut reader, mut writer) = tokio::io::split(scene.server);
    let mut sent = vec![0; large.len() + 20];
    let length = format!("*1\r\n${}\r\n{large}\r\n", large.len());
    soon(reader.read_exact(&mut sent[..length.len()])).await.unwrap();
    assert!(sent.starts_with(length.as_bytes()));
    let answer = format!("*2\r\n${}\r\n{large}\r\n:7\r\n", large.len());
    let written = tokio::spawn(async move { writer.write_all(answer.as_bytes()).await });
    let Ok(Value::Array(items)) = soon(asked).await else { panic!("no answer") };
    assert_eq!(items, [Value::Bulk(large.into()), Value::Int(7)]);
    written.await.unwrap().unwrap();
    assert!(!scene.driver.is_finished());
}

#[tokio::test]
async fn many_callers_on_many_threads_get_their_own_answers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let (client, server) = duplex(500);
    // Sends each argument back.
    let echo = runtime.spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(server);
        let (mut input, mut part) = (Vec::new(), [0; 700]);
        loop {
            let read = reader.read(&mut part).await.unwrap();
            if read == 0 {
                return;
            }
            input.extend_from_slice(&part[..read]);
            while let Ok(Some((Value::Array(parts), length))) = Measure::default().parse(&input) {
                let Value::Bulk(argument) = &parts[0] else { panic!("no argument") };
                let mut answer = Vec::new();
                argument_of(&mut answer, argument);
                if writer.write_all(&answer).await.is_err() {
                    // The last answers are nobody's.
                    return;
                }
                input.drain(..length);
            }
        }
    });
    let callers = runtime.spawn(async move {
        let (wire, driver) = Wire::new(client);
        let driver = tokio::spawn(driver);
        let wire = Arc::new(wire);
        let callers: Vec<_> = (0..40)
            .map(|caller| {
                let wire = Arc::clone(&wire);
                tokio::spawn(async move {
                    for number in 0..100 {
                        // Four ask the same, at the same time or not.
                        let name = format!("{}-{number}", caller / 4);
                        let asked =
                            wire.read(Instant::now() + PATIENCE, |out| command(out, &[name.as_bytes()])).unwrap();
                        if number % 7 == caller % 7 {
                            drop(asked);
                        } else {
                            assert_eq!(asked.await, Ok(Value::Bulk(name.into())));
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        drop(wire);
        driver.await.unwrap();
    });
    soon(callers).await.unwrap();
    soon(echo).await.unwrap();
    runtime.shutdown_background();
}
