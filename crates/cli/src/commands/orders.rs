//! `portolan drain` and `portolan evict`: what is taken out of answers, and put back.

use std::io::Write;

use hyper::Method;
use portolan_registry::http::api::{Order, OrderList, OrderReason};

use super::{Asker, Failure, Verdict, failed};
use crate::client::{Answer, ClientError, Question, escaped};
use crate::locate::Registry;
use crate::show::{self, Screen};

/// An ECS task id has 32 digits, a container id 64; people give 12 and more.
const ID_DIGITS_MIN: usize = 12;

/// What to do about a node, a task or a container.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// To order it, and why.
    Order(Option<String>),
    /// To take the order back.
    Undo,
}

impl Change {
    fn question<'a>(&self, path: &'a str) -> Question<'a> {
        match self {
            Change::Undo => Question::write(Method::DELETE, path, None),
            Change::Order(reason) => {
                let body = reason.as_ref().map(|_| OrderReason { reason: reason.clone() });
                let body = body.and_then(|body| serde_json::to_vec(&body).ok());
                Question::write(Method::POST, path, body)
            }
        }
    }
}

impl Asker<'_> {
    /// What is ordered now.
    pub(super) async fn orders<W: Write>(&self, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let answer: Answer<OrderList> = self.get(&registry, "/api/drain").await?;
        if self.is_json() {
            screen.json(&answer.raw)?
        } else {
            show::orders(screen, &answer.value)?
        }
        Ok(Verdict::Done)
    }

    /// Drains whatever is called so: what looks like an id is looked for among tasks first, all else among nodes.
    pub(super) async fn drain<W: Write>(
        &self,
        target: &str,
        change: Change,
        screen: &mut Screen<W>,
    ) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let kinds = if is_id(target) { ["tasks", "nodes"] } else { ["nodes", "tasks"] };
        let mut unknown = Vec::new();
        for kind in kinds {
            let path = format!("/api/drain/{kind}/{}", escaped(target));
            match self.client.ask(&registry.server, change.question(&path)).await {
                Ok(answer) => return self.ordered(&change, &answer, screen),
                Err(ClientError::Refused { status, detail, .. }) if status.as_u16() == 404 => unknown.push(detail),
                Err(error) => return Err(failed(&registry, error)),
            }
        }
        Err(nobody(&registry, &unknown))
    }

    /// Evicts a task or a container.
    pub(super) async fn evict<W: Write>(
        &self,
        id: &str,
        change: Change,
        screen: &mut Screen<W>,
    ) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let answer = self.ask(&registry, change.question(&format!("/api/evict/{}", escaped(id)))).await?;
        self.ordered(&change, &answer, screen)
    }

    /// Switches a service's link off, or on again.
    pub(super) async fn switch_link<W: Write>(
        &self,
        name: &str,
        change: Change,
        screen: &mut Screen<W>,
    ) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let key = self.key(&registry, name, None).await?;
        let path = format!("/api/links/{}/{}/off", escaped(&key.cluster), escaped(&key.service));
        let answer = self.ask(&registry, change.question(&path)).await?;
        self.ordered(&change, &answer, screen)
    }

    fn ordered<W: Write>(
        &self,
        change: &Change,
        answer: &Answer<Order>,
        screen: &mut Screen<W>,
    ) -> Result<Verdict, Failure> {
        match (self.is_json(), change) {
            (true, _) => screen.json(&answer.raw)?,
            (false, Change::Order(_)) => show::ordered(screen, &answer.value)?,
            (false, Change::Undo) => show::undone(screen, &answer.value)?,
        }
        Ok(Verdict::Done)
    }
}

fn is_id(text: &str) -> bool {
    text.starts_with("arn:") || (text.len() >= ID_DIGITS_MIN && text.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Nothing is called so, of either kind.
fn nobody(registry: &Registry, details: &[String]) -> Failure {
    Failure::Answered { text: format!("the registry at {} says: {}", registry.server, details.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_an_id_from_a_name() {
        let check = |text: &str, expected: bool| assert_eq!(is_id(text), expected, "{text}");
        check("0123456789ab", true);
        check("0123456789ABCDEF0123456789abcdef", true);
        check("arn:aws:ecs:eu-west-1:1:task/prod/0123", true);
        check("i-0123456789abcdef0", false);
        check("m-221a623fa6b7aab7", false);
        check("cafe", false);
        check("n1.prod", false);
    }
}
