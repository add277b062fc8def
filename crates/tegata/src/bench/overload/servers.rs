//! The servers that are tried: how each is started, what it is asked, and what it must answer.
//!
//! No request is sent again once it was accepted. The CA and EST would answer with the same certificate, a TAM's
//! challenge is used up. The Verifier would do all its work again; it gets evidence with another nonce all the same.

use axum::body::Bytes;

use crate::bench::appraise::{self, Appraise};
use crate::bench::bed::{Asks as _, Bed};
use crate::bench::check::{Certificates, refused};
use crate::bench::deliver::{Deliver, Roles, State};
use crate::bench::issue::target;
use crate::bench::load::{Ask, Pace, Refusals, Target, drive};
use crate::bench::plant::{self, Nursery};
use crate::bench::requests::{self, Reader};
use crate::bench::served::Served;
use crate::bench::tls::{self, OverTls};
use crate::bench::{PKIXCMP, odd};
use crate::cli::bench::BenchServer;
use crate::fault::Outcome;
use crate::roles::verifier::APPRAISAL_REQUEST;

/// Connections by which devices knock at the TAM before a clock runs.
const KNOCKING: usize = 16;

/// A running server, and how it is asked.
pub trait Tried {
    /// The server.
    fn server(&self) -> &Served;

    /// Where requests go.
    fn target(&self) -> &Target;

    /// So many requests, the first of them that number: each another one than all before.
    ///
    /// # Errors
    /// They cannot be made.
    fn asks(&mut self, first: usize, count: usize) -> Outcome<Vec<Ask>>;

    /// Looks at what was answered to the request of that number.
    ///
    /// # Errors
    /// It is not what that request must be answered with.
    fn judge(&mut self, number: usize, request: &Ask, answer: &Bytes) -> Outcome<()>;
}

/// Makes an installation, as many requests as can be made ahead, and starts the server.
///
/// # Errors
/// Files, keys, stores; a server that does not start.
pub fn start<'a>(
    server: BenchServer,
    bed: &'a Bed<'a>,
    many: usize,
) -> Outcome<Box<dyn Tried + 'a>> {
    Ok(match server {
        BenchServer::Ca => Box::new(Issuing::by_cmp(bed, many)?),
        BenchServer::Tam => Box::new(Tam::start(bed)?),
        BenchServer::Verifier => Box::new(Verifier::start(bed, many)?),
        BenchServer::Est => Box::new(Issuing::by_est(bed, many)?),
    })
}

/// The body of a request; there are no others here.
fn posted(request: &Ask) -> Outcome<&Bytes> {
    match request {
        Ask::Post(body) => Ok(body),
        Ask::Get(path) => Err(odd(format!("nobody asked for {path}"))),
    }
}

/// Certificates, each of its own request's key.
struct Issuing {
    server: Served,
    target: Target,
    asks: Reader,
    seen: Certificates,
    /// The certificate in an answer.
    certificate: fn(&Bytes) -> Outcome<Vec<u8>>,
    /// The key in a request.
    key: fn(&[u8]) -> Outcome<Vec<u8>>,
}

impl Issuing {
    /// By CMP: p10cr, with implicit confirmation.
    fn by_cmp(bed: &Bed<'_>, many: usize) -> Outcome<Self> {
        let nursery = Nursery::open(&bed.path("plant"), "")?;
        let made = nursery.devices(bed.devices(), &bed.bar)?;
        let path = bed.path("requests");
        let (spool, _) = requests::make(&path, &made, &nursery.order, many, &bed.bar)?;
        let plant = nursery.close(made.iter().map(|device| &device.identity));
        let server = Served::ca(&plant.dir, bed.path("run"), bed.cpus.server)?;
        let path = format!("/.well-known/cmp/p/{}", plant::PROFILE);
        Ok(Self {
            target: target(&server, &path, PKIXCMP, Refusals::Fault),
            server,
            asks: spool.read()?,
            seen: Certificates::default(),
            certificate: |answer| requests::certificate_in(answer).map_err(refused),
            key: requests::key_in,
        })
    }

    /// By EST: simplereenroll. The flood keeps its connections, the honest peer shakes hands each time.
    fn by_est(bed: &Bed<'_>, many: usize) -> Outcome<Self> {
        let over = OverTls::open(bed, many)?;
        let server = Served::ca(&over.plant.dir, bed.path("run"), bed.cpus.server)?;
        Ok(Self {
            target: over.est(&server, false)?,
            server,
            asks: over.spool.read()?,
            seen: Certificates::default(),
            certificate: tls::certificate_in,
            key: tls::key_in,
        })
    }
}

impl Tried for Issuing {
    fn server(&self) -> &Served {
        &self.server
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn asks(&mut self, _: usize, count: usize) -> Outcome<Vec<Ask>> {
        self.asks.take_some(count)
    }

    fn judge(&mut self, _: usize, request: &Ask, answer: &Bytes) -> Outcome<()> {
        let der = (self.certificate)(answer)?;
        self.seen.one(&der, &(self.key)(posted(request)?)?)
    }
}

/// Updates with a whole TA, each for one device: the answer to a QueryResponse. CA and Verifier, whom the TAM asks, run
/// on the client's processor.
struct Tam<'a> {
    roles: Roles,
    target: Target,
    deliver: Deliver<'a>,
}

impl<'a> Tam<'a> {
    fn start(bed: &'a Bed<'a>) -> Outcome<Self> {
        let deliver = Deliver::furnish(bed)?;
        let roles = deliver.start(None)?;
        // Once each before a clock runs: the TAM keeps what the CA says of a device.
        let closed = [Pace::Closed(bed.clients()); 3];
        deliver.sessions(&roles.tam, bed.devices(), State::Wants, closed)?;
        Ok(Self {
            target: deliver.target(&roles.tam),
            roles,
            deliver,
        })
    }
}

impl Tried for Tam<'_> {
    fn server(&self) -> &Served {
        &self.roles.tam
    }

    fn target(&self) -> &Target {
        &self.target
    }

    /// A challenge is good for five minutes, so devices knock only now.
    fn asks(&mut self, first: usize, count: usize) -> Outcome<Vec<Ask>> {
        let knocks = vec![Ask::Post(Bytes::new()); count];
        let queried = drive(&self.target, knocks, Pace::Closed(KNOCKING))?;
        let numbered = (first..).zip(queried.bodies());
        numbered
            .map(|(number, query)| self.deliver.answer(number, query, State::Wants))
            .collect()
    }

    fn judge(&mut self, number: usize, _: &Ask, answer: &Bytes) -> Outcome<()> {
        self.deliver.judge(number, answer, State::Wants)
    }
}

/// Results of appraisals.
struct Verifier<'a> {
    server: Served,
    target: Target,
    asks: Reader,
    appraise: Appraise<'a>,
}

impl<'a> Verifier<'a> {
    fn start(bed: &'a Bed<'a>, many: usize) -> Outcome<Self> {
        let appraise = Appraise::open(bed, many)?;
        let (dir, cpu) = (bed.path("run"), bed.cpus.server);
        let server = Served::role("verifier", &appraise.plant.dir, dir, cpu)?;
        let path = appraise::PATH;
        Ok(Self {
            target: target(&server, path, APPRAISAL_REQUEST, Refusals::Fault),
            server,
            asks: appraise.spool.read()?,
            appraise,
        })
    }
}

impl Tried for Verifier<'_> {
    fn server(&self) -> &Served {
        &self.server
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn asks(&mut self, _: usize, count: usize) -> Outcome<Vec<Ask>> {
        self.asks.take_some(count)
    }

    fn judge(&mut self, number: usize, request: &Ask, answer: &Bytes) -> Outcome<()> {
        let devices = &self.appraise.plant.devices;
        let ueid = devices.get(number % devices.len().max(1));
        let ueid = ueid.ok_or_else(|| odd("there are no devices"))?;
        self.appraise.judge(posted(request)?, ueid, answer)
    }
}
