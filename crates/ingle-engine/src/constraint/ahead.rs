//! Masks computed while the network computes the logits that they are for.
//!
//! What can come next is known as soon as a token was chosen, a whole step before it is asked for. A thread of the model's
//! vocabulary works it out meanwhile; where the step is longer than that, which it nearly always is, masks cost nothing.

use super::ConstraintError;
use super::room::STACK;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

/// The way to the thread, which ends with the last clone of it.
#[derive(Clone)]
pub(super) struct Worker(Option<Sender<Order>>);

/// A grammar whose mask is wanted, and who wants it.
struct Order {
    matcher: Matcher,
    reply: Sender<Done>,
}

/// A grammar with the tokens that can come next, and the seconds it took to know them.
pub(super) struct Done {
    pub(super) matcher: Matcher,
    pub(super) mask: Result<SimpleVob, ConstraintError>,
    pub(super) seconds: f64,
}

impl Worker {
    /// A thread. Where the system gives none, masks are computed at once.
    pub(super) fn start() -> Worker {
        let (orders, receiver) = mpsc::channel::<Order>();
        let work = move || {
            for Order { matcher, reply } in receiver {
                // whoever gave up does not want it any more
                _ = reply.send(compute(matcher));
            }
        };
        let started = std::thread::Builder::new().name("ingle-masks".into()).stack_size(STACK).spawn(work);
        Worker(started.is_ok().then_some(orders))
    }

    /// Begins to work out what can come next.
    pub(super) fn begin(&self, matcher: Matcher) -> Receiver<Done> {
        let (reply, receiver) = mpsc::channel();
        let order = Order { matcher, reply };
        let refused = match &self.0 {
            Some(orders) => orders.send(order).map_err(|refused| refused.0),
            None => Err(order),
        };
        if let Err(Order { matcher, reply }) = refused {
            _ = reply.send(compute(matcher));
        }
        receiver
    }
}

fn compute(mut matcher: Matcher) -> Done {
    let started = Instant::now();
    let mask = matcher.compute_mask().map_err(|error| ConstraintError::walk(&error));
    Done { matcher, mask, seconds: started.elapsed().as_secs_f64() }
}
