//! How the document describes the values of `domain` and `store` that answers consist of: these
//! rooms know their JSON, and not that it is documented.

mod deliveries;
mod events;
mod operator;
mod status;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::clock::UnixMillis;

/// Repeats types of other modules with what the document says of their members. As in serde's
/// remote derive, a repetition is never made. It fails to compile unless it names every member or
/// variant; serde's names have to be repeated as well.
macro_rules! described {
    () => {};
    (
        $(#[$about:meta])*
        struct $module:ident::$name:ident { $($(#[$said:meta])* $member:ident: $kind:ty,)* }
        $($rest:tt)*
    ) => {
        const _: () = {
            #[derive(serde::Serialize, utoipa::ToSchema)]
            $(#[$about])*
            struct $name { $($(#[$said])* $member: $kind,)* }
            type Real = $module::$name;
            const _: fn(Real) = |Real { $($member: _,)* }| ();
            $crate::web::api::described::described!(@as $name);
        };
        $crate::web::api::described::described! { $($rest)* }
    };
    (
        $(#[$about:meta])*
        enum $module:ident::$name:ident {
            $($(#[$said:meta])* $variant:ident $({ $($(#[$inner:meta])* $member:ident: $kind:ty,)* })?),* $(,)?
        }
        $($rest:tt)*
    ) => {
        const _: () = {
            #[derive(serde::Serialize, utoipa::ToSchema)]
            #[expect(dead_code, reason = "it stands for the type in the document alone")]
            $(#[$about])*
            enum $name { $($(#[$said])* $variant $({ $($(#[$inner])* $member: $kind,)* })?,)* }
            type Real = $module::$name;
            const _: fn(Real) = |real| match real {
                $(Real::$variant $({ $($member: _,)* })? => (),)*
            };
            $crate::web::api::described::described!(@as $name);
        };
        $crate::web::api::described::described! { $($rest)* }
    };
    (@as $name:ident) => {
        impl utoipa::PartialSchema for Real {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <$name as utoipa::PartialSchema>::schema()
            }
        }

        impl utoipa::ToSchema for Real {
            fn name() -> std::borrow::Cow<'static, str> {
                <$name as utoipa::ToSchema>::name()
            }

            fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
                <$name as utoipa::ToSchema>::schemas(schemas);
            }
        }
    };
}
use described;

impl PartialSchema for UnixMillis {
    fn schema() -> RefOr<Schema> {
        let time = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new().schema_type(Type::String).format(Some(time)).into()
    }
}

impl ToSchema for UnixMillis {}
