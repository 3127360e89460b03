//! The parts that a reload can replace: targets, streams and webhook endpoints, with
//! their statuses and controls.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::Error;
use super::supervisor::{Named, Supervisor};
use crate::config::{Settings, Subscription};
use crate::delivery::{self, Target, TargetClient};
use crate::domain::backoff::Jitter;
use crate::domain::clock::Clock;
use crate::domain::operator::{OperationError, TargetInfo};
use crate::domain::status::{StreamStatus, TargetStatus};
use crate::lifecycle::{Stop, Tasks};
use crate::pepay::account::Account;
use crate::source::stream::{self, Stream};
use crate::source::webhook::{self, Endpoints};
use crate::store::inbox::{Inbox, SourceIdentity};
use crate::store::outbox::Outbox;
use crate::store::view::StoredPause;
use crate::store::{Route, Store};
use crate::web::{self, Routes};

/// The parts that run under the present configuration.
#[derive(Debug)]
pub(super) struct Parts {
    targets: Supervisor<delivery::Settings, Handle<delivery::Control, TargetStatus>>,
    streams: Supervisor<Subscription, Handle<stream::Control, StreamStatus>>,
    endpoints: Endpoints,
    routes: Routes,
    shown: watch::Sender<Arc<web::Parts>>,
    controls: watch::Sender<Arc<Controls>>,
    inbox: Inbox,
    clock: Clock,
    jitter: Jitter,
    stop: Stop,
    /// Notified when a target has paused itself.
    saver: Arc<Notify>,
}

/// The reason shown for a paused target for which the store has none.
const BEFORE_START: &str = "since before the bridge was started";

/// The parts that run under one configuration, each list sorted by name.
#[derive(Debug, Default)]
pub(super) struct Controls {
    pub(super) streams: Vec<(Arc<str>, stream::Control)>,
    /// The account of each stream, by its name.
    pub(super) accounts: Vec<(Arc<str>, Arc<Account>)>,
    /// The account of `[pepay]`.
    pub(super) account: Option<Arc<Account>>,
    pub(super) targets: Vec<(TargetInfo, delivery::Control)>,
}

impl Controls {
    pub(super) fn stream(&self, name: &str) -> Result<stream::Control, OperationError> {
        let stream = self.streams.iter().find(|(stream, _)| **stream == *name);
        stream.map(|(_, control)| control.clone()).ok_or(OperationError::Unknown)
    }

    pub(super) fn target(&self, name: &str) -> Result<&delivery::Control, OperationError> {
        let target = self.targets.iter().find(|(target, _)| target.name == name);
        target.map(|(_, control)| control).ok_or(OperationError::Unknown)
    }
}

/// The handles of a part for other modules: its control and its status.
#[derive(Debug)]
struct Handle<C, S> {
    control: C,
    status: watch::Receiver<S>,
}

/// The changes by a configuration. Everything that can fail has been done.
pub(super) struct Prepared {
    /// Descriptions of the changes, such as `targets.orders changed`.
    pub(super) changes: Vec<String>,
    /// The targets that go on unchanged.
    pub(super) kept_targets: Vec<Arc<str>>,
    /// The new targets, and those that were removed.
    pub(super) added_or_removed_targets: Vec<Arc<str>>,
    targets: Vec<TargetClient>,
    removed_targets: Vec<Arc<str>>,
    streams: Vec<(Subscription, Stream, Handle<stream::Control, StreamStatus>)>,
    removed_streams: Vec<Arc<str>>,
    endpoints: Vec<webhook::Settings>,
    account: Arc<Account>,
}

/// The difference between the configuration `wanted` and the running parts.
struct Difference<S> {
    /// The parts to start, either in place of another one or as the first of their name.
    new: Vec<S>,
    kept: Vec<Arc<str>>,
    removed: Vec<Arc<str>>,
    lines: Vec<String>,
}

impl Parts {
    /// Creates the parts, none of which runs yet. The webhook endpoints are served on `routes`. The
    /// first receiver has the statuses of the running parts, the second their controls.
    pub(super) fn new(
        store: &Store,
        clock: Clock,
        jitter: Jitter,
        stop: Stop,
        saver: Arc<Notify>,
        routes: &Routes,
    ) -> (Self, watch::Receiver<Arc<web::Parts>>, watch::Receiver<Arc<Controls>>) {
        let (shown, showing) = watch::channel(Arc::default());
        let (controls, controlling) = watch::channel(Arc::default());
        let parts = Self {
            targets: Supervisor::new("target"),
            streams: Supervisor::new("stream"),
            endpoints: Endpoints::new(store.inbox.clone(), clock.clone()),
            routes: routes.clone(),
            shown,
            controls,
            inbox: store.inbox.clone(),
            clock,
            jitter,
            stop,
            saver,
        };
        (parts, showing, controlling)
    }

    /// Prepares the parts that `settings` ask for and that do not run yet. Changes nothing.
    pub(super) fn prepare(&self, settings: &Settings) -> Result<Prepared, Error> {
        let targets = difference("targets", self.targets.settings(), settings.targets.clone());
        let differs = self.controls.borrow().account.as_ref().is_some_and(|ours| *ours != settings.pepay);
        let pepay = if differs { vec!["pepay changed".to_owned()] } else { Vec::new() };
        let streams = difference("streams", self.streams.settings(), settings.streams.clone());
        let endpoints = difference("webhooks", self.endpoints.settings(), settings.webhooks.clone());

        let added = targets.new.iter().map(Named::name).filter(|name| self.targets.handle(name).is_none());
        let added_or_removed_targets = added.chain(&targets.removed).cloned().collect();
        let clients = targets.new.into_iter().map(|settings| TargetClient::new(settings, self.clock.clone()));
        let clients = clients.collect::<Result<_, _>>()?;
        let subscribed = streams.new.into_iter().map(|subscription| self.subscribe(subscription));
        Ok(Prepared {
            changes: [pepay, targets.lines, streams.lines, endpoints.lines].concat(),
            kept_targets: targets.kept,
            added_or_removed_targets,
            targets: clients,
            removed_targets: targets.removed,
            streams: subscribed.collect::<Result<_, _>>()?,
            removed_streams: streams.removed,
            endpoints: settings.webhooks.clone(),
            account: Arc::clone(&settings.pepay),
        })
    }

    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> Result<(Subscription, Stream, Handle<stream::Control, StreamStatus>), Error> {
        let (inbox, clock, jitter) = (self.inbox.clone(), self.clock.clone(), self.jitter.clone());
        let (stream, control, status) =
            Stream::new(subscription.settings.clone(), &subscription.account, inbox, clock, jitter)?;
        Ok((subscription, stream, Handle { control, status }))
    }

    /// Puts `prepared` into effect; `outboxes` are those of its [routes](Prepared::routes). A
    /// replaced part finishes its work before its successor begins. An unchanged part goes on
    /// undisturbed. A target without a predecessor begins paused if `held_back` has it.
    pub(super) fn replace(
        &mut self,
        prepared: Prepared,
        outboxes: Vec<Outbox>,
        held_back: &[StoredPause],
        tasks: &mut Tasks,
    ) {
        let (Stop { soft, hard }, mut replaced) = (self.stop.clone(), Vec::new());
        for (client, outbox) in prepared.targets.into_iter().zip(outboxes) {
            let settings = client.settings().clone();
            let predecessor = self.targets.handle(&settings.name);
            let paused = match predecessor {
                Some(before) => before.status.borrow().paused_reason.clone(),
                None => held_back
                    .iter()
                    .find(|pause| pause.target == settings.name)
                    .map(|pause| pause.reason.clone().unwrap_or_else(|| BEFORE_START.to_owned())),
            };
            let saver = Arc::clone(&self.saver);
            let (target, control, status) = Target::new(client, outbox, paused, saver, self.jitter.clone());
            if let Some(before) = predecessor {
                let mut running = self.targets.settings();
                let same_address = running.any(|one| one.name == settings.name && one.url == settings.url);
                target.follow(&before.status.borrow(), same_address);
                replaced.push((before.control.clone(), control.clone()));
            }
            let (handle, hard) = (Handle { control, status }, hard.clone());
            self.targets.replace(tasks, &soft, settings, handle, |stop| target.run(stop, hard));
        }
        for (subscription, stream, handle) in prepared.streams {
            if let Some(before) = self.streams.handle(subscription.name()) {
                stream.follow(&before.status.borrow());
            }
            self.streams.replace(tasks, &soft, subscription, handle, |stop| stream.run(stop));
        }
        prepared.removed_targets.iter().for_each(|name| self.targets.stop(name));
        prepared.removed_streams.iter().for_each(|name| self.streams.stop(name));
        self.endpoints.open(prepared.endpoints);
        self.routes.replace(self.endpoints.router());
        self.shown.send_replace(Arc::new(web::Parts {
            streams: self.streams.handles().map(|stream| stream.status.clone()).collect(),
            webhooks: self.endpoints.statuses(),
            targets: self.targets.handles().map(|target| target.status.clone()).collect(),
        }));
        let accounts = self.streams.settings();
        let accounts =
            accounts.map(|stream| (Arc::clone(stream.name()), Arc::clone(&stream.account))).collect();
        let streams = self.streams.settings().zip(self.streams.handles());
        let targets = self.targets.settings().zip(self.targets.handles());
        let successors = Arc::new(Controls {
            accounts,
            account: Some(prepared.account),
            streams: streams
                .map(|(stream, handle)| (Arc::clone(stream.name()), handle.control.clone()))
                .collect(),
            targets: targets.map(|(settings, handle)| (settings.into(), handle.control.clone())).collect(),
        });
        self.controls.send_modify(|controls| {
            // The pause worker holds a borrow of the controls until a pause is applied. So every
            // pause of a predecessor has been applied by now, and the next one goes to its
            // successor.
            for (before, control) in replaced {
                control.follow(&before);
            }
            *controls = successors;
        });
    }

    /// Returns whether a target of this name runs.
    pub(super) fn has_target(&self, name: &str) -> bool {
        self.targets.handle(name).is_some()
    }
}

impl Prepared {
    /// Returns the routes of the targets that are opened anew, in their order.
    pub(super) fn routes(&self) -> Vec<Route> {
        self.targets.iter().map(|client| route(client.settings())).collect()
    }
}

/// Returns the identities of the configured sources. Webhooks belong to `[pepay]`. Their
/// environment is known only if all endpoints take the same one.
pub fn identities(settings: &Settings) -> Vec<SourceIdentity> {
    let of = |source: &str, account: &Account, environment| SourceIdentity {
        source: source.into(),
        api_url: account.base(),
        environment,
        account: None,
    };
    let environment = settings.webhooks.first().and_then(|first| first.environment);
    let environment =
        environment.filter(|_| settings.webhooks.iter().all(|webhook| webhook.environment == environment));
    let webhooks = (!settings.webhooks.is_empty()).then(|| of("", &settings.pepay, environment));
    let streams = settings.streams.iter();
    let streams = streams.map(|stream| of(&stream.settings.name, &stream.account, None));
    webhooks.into_iter().chain(streams).collect()
}

/// Returns the route of a target: the events that it receives.
pub(super) fn route(settings: &delivery::Settings) -> Route {
    let delivery::Settings { name, types, environment, condition, ordering, .. } = settings;
    Route {
        target: Arc::clone(name),
        types: types.clone(),
        environment: *environment,
        condition: condition.clone(),
        ordering: *ordering,
    }
}

fn difference<'a, S: Named + PartialEq + 'a>(
    section: &str,
    running: impl Iterator<Item = &'a S>,
    wanted: Vec<S>,
) -> Difference<S> {
    let running: Vec<_> = running.collect();
    let of_name = |name: &Arc<str>| running.iter().find(|running| running.name() == name);
    let names = running.iter().map(|running| running.name());
    let removed = names.filter(|name| wanted.iter().all(|wanted| wanted.name() != *name));
    let removed: Vec<_> = removed.cloned().collect();
    let mut lines: Vec<_> = removed.iter().map(|name| format!("{section}.{name} removed")).collect();
    let (mut new, mut kept) = (Vec::new(), Vec::new());
    for wanted in wanted {
        match of_name(wanted.name()) {
            Some(running) if **running == wanted => kept.push(Arc::clone(wanted.name())),
            running => {
                let what = if running.is_some() { "changed" } else { "added" };
                lines.push(format!("{section}.{} {what}", wanted.name()));
                new.push(wanted);
            }
        }
    }
    Difference { new, kept, removed, lines }
}

impl Named for delivery::Settings {
    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Named for Subscription {
    fn name(&self) -> &Arc<str> {
        &self.settings.name
    }
}

impl Named for webhook::Settings {
    fn name(&self) -> &Arc<str> {
        &self.name
    }
}
