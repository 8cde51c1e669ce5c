//! A listing's pages: complete when the last one came, and no token came twice.
//!
//! Pure. An empty page with a token is an ordinary one.

use std::collections::BTreeSet;

use super::api::Page;

/// How many pages one listing may have: at 100 each, far more than a cluster can hold.
pub(super) const PAGES_MAX: usize = 2_000;

/// Pages so far.
#[derive(Debug, Default)]
pub(super) struct Pages {
    arns: BTreeSet<String>,
    tokens: BTreeSet<String>,
    count: usize,
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The page of this token.
    Token(String),
    /// Nothing: these are all.
    Complete(BTreeSet<String>),
}

/// Why a listing cannot be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PagesError {
    #[error("a page's token came twice: the pages go in a circle")]
    Circle,
    #[error("it has more than {PAGES_MAX} pages")]
    TooMany,
}

impl Pages {
    /// Takes the next page.
    pub(super) fn take(&mut self, page: Page) -> Result<Next, PagesError> {
        self.count += 1;
        self.arns.extend(page.arns);
        match page.next.filter(|token| !token.is_empty()) {
            None => Ok(Next::Complete(std::mem::take(&mut self.arns))),
            Some(_) if self.count >= PAGES_MAX => Err(PagesError::TooMany),
            Some(token) if !self.tokens.insert(token.clone()) => Err(PagesError::Circle),
            Some(token) => Ok(Next::Token(token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(arns: &[&str], next: Option<&str>) -> Page {
        Page { arns: arns.iter().map(|arn| (*arn).to_owned()).collect(), next: next.map(str::to_owned) }
    }

    #[test]
    fn is_complete_with_its_last_page() {
        let mut pages = Pages::default();
        assert_eq!(pages.take(page(&["a", "b"], Some("1"))), Ok(Next::Token("1".to_owned())));
        assert_eq!(pages.take(page(&[], Some("2"))), Ok(Next::Token("2".to_owned())));
        let all = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(pages.take(page(&["b", "c"], None)), Ok(Next::Complete(all)));
    }

    #[test]
    fn ends_in_a_circle_and_beyond_all_bounds() {
        let mut pages = Pages::default();
        pages.take(page(&["a"], Some("1"))).unwrap();
        pages.take(page(&["b"], Some("2"))).unwrap();
        assert_eq!(pages.take(page(&["c"], Some("1"))), Err(PagesError::Circle));
        let mut pages = Pages::default();
        let end = (0..PAGES_MAX).map(|n| pages.take(page(&[], Some(&n.to_string())))).find_map(Result::err);
        assert_eq!(end, Some(PagesError::TooMany));
    }
}
