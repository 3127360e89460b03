//! The points that Pepay's documentation leaves open, or states in two ways. Each is a switch with
//! every possible value. The default is the documented value, or else the plainest one.
//! `docs/simulator.md` lists the switches, and `docs/pepay.md` the bridge's behaviour under each.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// One value for each switch. The command line, the control surface and the tests set them here.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// What `data.object` of commerce.order.* is (both documented, on different pages)
    #[arg(long, value_enum, default_value_t, value_name = "SHAPE")]
    pub order_shape: OrderShape,
    /// How ids of orders, invoices and payments are written (numbers: undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub object_ids: ObjectIds,
    /// How `created` is written (all but integer: undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub created: Created,
    /// What a payment names beside its invoice (its order: undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "LINK")]
    pub payment_links: PaymentLinks,
    /// What an endpoint does about types of the other endpoint (undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub foreign_types: ForeignTypes,
    /// What the list does with a parameter it does not document (undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub unknown_parameters: UnknownParameters,
    /// Which page `ending_before` returns when there is more than one (undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    pub page_order: PageOrder,
    /// What the list is sorted by, newest first (undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "SORT")]
    pub list_sort: ListSort,
    /// Whether REST answers have the success/data wrapper (both documented)
    #[arg(long, value_enum, default_value_t, value_name = "SHAPE")]
    pub list_shape: ListShape,
    /// Whether a page says `has_more` (absent: undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "PRESENCE")]
    pub has_more: Presence,
    /// Whether a token answer has a `ws_url` (both documented)
    #[arg(long, value_enum, default_value_t, value_name = "PRESENCE")]
    pub ws_url: Presence,
    /// What happens to an open stream when its token expires (undocumented)
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub expired_token: ExpiredToken,
    /// What a `since` that is unknown or too old comes to (snapshot: documented)
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub old_cursor: OldCursor,
    /// Where a 429 says how long to wait (both documented)
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub retry_after: RetryAfterPlace,
    /// Which of the three documented shapes error bodies have
    #[arg(long, value_enum, default_value_t, value_name = "SHAPE")]
    pub error_shape: ErrorShape,
    /// How many seconds the `Date` header is ahead of the clock
    #[arg(long, default_value_t, value_name = "SECONDS", allow_negative_numbers = true)]
    pub date_offset: i64,
}

/// Declares an enum of switch values, the default first.
macro_rules! switch {
    ($(#[$about:meta])* $name:ident { $(#[$first_about:meta])* $first:ident, $($(#[$other_about:meta])* $other:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $(#[$first_about])*
            #[default]
            $first,
            $($(#[$other_about])* $other,)+
        }
    };
}

switch! {
    /// What `data.object` of an order event is.
    OrderShape {
        /// An object whose `id` is the order's, with `environment`
        Object,
        /// The merchant's order snapshot: `orderId`, `networkEnvironment`, no `id`
        Snapshot,
    }
}

switch! {
    /// How ids inside `data.object` are written.
    ObjectIds {
        /// As text
        Text,
        /// As JSON numbers
        Number,
    }
}

switch! {
    /// How the envelope's `created` is written.
    Created {
        /// Unix seconds, an integer
        Integer,
        /// Unix seconds, with a fraction
        Float,
        /// Unix seconds, as text
        Text,
        /// RFC 3339, as text
        Iso,
        /// Not at all
        Missing,
    }
}

switch! {
    /// What a payment names.
    PaymentLinks {
        /// Its invoice alone
        Invoice,
        /// Its invoice and its order (`commerce_order_id`)
        Order,
    }
}

switch! {
    /// What an endpoint does about types that are documented for the other one.
    ForeignTypes {
        /// Takes them in the filter and never sends them
        LeftOut,
        /// Refuses a filter that names them with 400
        Refused,
        /// Sends them as well
        Sent,
    }
}

switch! {
    /// What the list does with a parameter it does not document.
    UnknownParameters {
        /// Refuses the request with 400
        Refused,
        /// Ignores it
        Ignored,
    }
}

switch! {
    /// Which page `ending_before` returns when there is more than one.
    PageOrder {
        /// The page next to the cursor, as Stripe does
        NextToCursor,
        /// The newest page there is
        Newest,
    }
}

switch! {
    /// What the list is sorted by.
    ListSort {
        /// The order in which events were published
        Insertion,
        /// `created`, and by insertion within a second
        Created,
    }
}

switch! {
    /// What REST answers look like.
    ListShape {
        /// `{"success":true,"data":{"object":"list",…}}`
        Wrapped,
        /// `{"object":"list",…}`
        Bare,
    }
}

switch! {
    /// Whether a field is there.
    Presence {
        /// It is there
        Present,
        /// It is not
        Absent,
    }
}

switch! {
    /// What happens to an open stream when its token expires.
    ExpiredToken {
        /// It stays open
        KeepsStream,
        /// It is closed with code 1008
        EndsStream,
    }
}

switch! {
    /// What a `since` that is unknown or too old comes to.
    OldCursor {
        /// A hint, the newest events, then live ones
        Snapshot,
        /// A 400 at the upgrade
        Refused,
        /// A `ws_error` frame on the open stream, which then closes
        Error,
    }
}

switch! {
    /// Where a 429 says how long to wait.
    RetryAfterPlace {
        /// In the `Retry-After` header and in the body
        Header,
        /// In the body alone
        Body,
    }
}

switch! {
    /// The shapes of error bodies.
    ErrorShape {
        /// Another one at each kind of endpoint
        Mixed,
        /// `{"success":false,"error":{"code","message"}}`
        Nested,
        /// `{"success":false,"message","error_code"}`
        Flat,
        /// `{"error":"…","code":"…"}`
        Plain,
    }
}
