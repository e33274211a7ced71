#[allow(deprecated)]
const _: () = {
    use ::storehaus::__private as __p;
    #[automatically_derived]
    impl __p::cache::CacheField for UserId {
        const LAYOUT: ::core::primitive::u64 = <Uuid as __p::field::Field>::LAYOUT;
        fn encode(
            &self,
            __out: &mut __p::cache::Encoder,
        ) -> ::core::result::Result<(), __p::cache::EncodeError> {
            <Uuid as __p::field::Field>::encode(&self.0, __out)
        }
        fn decode(
            __input: &mut __p::cache::Decoder<'_>,
        ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
            ::core::result::Result::Ok(
                Self(<Uuid as __p::field::Field>::decode(__input)?),
            )
        }
    }
    #[automatically_derived]
    impl __p::cache::KeyRef for UserId
    where
        for<'__k> Uuid: __p::cache::Key,
        for<'__k> Self: ::core::clone::Clone + ::core::cmp::Eq + ::core::fmt::Debug
            + ::core::hash::Hash,
    {
        type Owned = Self;
        fn to_key(&self) -> Self {
            ::core::clone::Clone::clone(self)
        }
        fn write(&self, __out: &mut __p::cache::KeyWriter) {
            <Uuid as __p::cache::KeyRef>::write(&self.0, __out)
        }
    }
    #[automatically_derived]
    impl __p::cache::Key for UserId
    where
        for<'__k> Uuid: __p::cache::Key,
        for<'__k> Self: ::core::clone::Clone + ::core::cmp::Eq + ::core::fmt::Debug
            + ::core::hash::Hash,
    {
        fn parse(
            __parts: &mut __p::cache::KeyParts<'_>,
        ) -> ::core::option::Option<Self> {
            ::core::option::Option::map(<Uuid as __p::cache::Key>::parse(__parts), Self)
        }
    }
    #[automatically_derived]
    impl __p::model::ModelKey for UserId
    where
        for<'__k> Uuid: __p::model::ModelKey,
        for<'__k> Self: ::core::clone::Clone + ::core::cmp::Eq + ::core::fmt::Debug
            + ::core::hash::Hash,
    {
        const ASSIGNED_BY: __p::model::AssignedBy = <Uuid as __p::model::ModelKey>::ASSIGNED_BY;
        fn is_unset(&self) -> ::core::primitive::bool {
            <Uuid as __p::model::ModelKey>::is_unset(&self.0)
        }
        fn generate() -> ::core::option::Option<Self> {
            ::core::option::Option::map(<Uuid as __p::model::ModelKey>::generate(), Self)
        }
    }
    #[if_postgres]
    #[automatically_derived]
    impl __p::column::Column<__p::sqlx::Postgres> for UserId {
        const TYPE: __p::column::SqlType = <Uuid as __p::field::Field>::POSTGRES_TYPE;
        fn bind(
            &self,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <Uuid as __p::field::Field>::postgres_bind(&self.0, __args)
        }
        fn bind_null(
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <Uuid as __p::field::Field>::postgres_bind_null(__args)
        }
        fn bind_array<'__v>(
            __values: impl ::core::iter::Iterator<
                Item = ::core::option::Option<&'__v Self>,
            >,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError>
        where
            Self: '__v,
        {
            <Uuid as __p::field::Field>::postgres_bind_array(
                ::core::iter::Iterator::map(
                    __values,
                    |__value| {
                        ::core::option::Option::map(__value, |__value| &__value.0)
                    },
                ),
                __args,
            )
        }
        fn read(
            __row: &<__p::sqlx::Postgres as __p::sqlx::Database>::Row,
            __index: ::core::primitive::usize,
        ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
            ::core::result::Result::Ok(
                ::core::option::Option::map(
                    <Uuid as __p::field::Field>::postgres_read(__row, __index)?,
                    Self,
                ),
            )
        }
    }
    #[if_sqlite]
    #[automatically_derived]
    impl __p::column::Column<__p::sqlx::Sqlite> for UserId {
        const TYPE: __p::column::SqlType = <Uuid as __p::field::Field>::SQLITE_TYPE;
        fn bind(
            &self,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <Uuid as __p::field::Field>::sqlite_bind(&self.0, __args)
        }
        fn bind_null(
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <Uuid as __p::field::Field>::sqlite_bind_null(__args)
        }
        fn bind_array<'__v>(
            __values: impl ::core::iter::Iterator<
                Item = ::core::option::Option<&'__v Self>,
            >,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError>
        where
            Self: '__v,
        {
            <Uuid as __p::field::Field>::sqlite_bind_array(
                ::core::iter::Iterator::map(
                    __values,
                    |__value| {
                        ::core::option::Option::map(__value, |__value| &__value.0)
                    },
                ),
                __args,
            )
        }
        fn read(
            __row: &<__p::sqlx::Sqlite as __p::sqlx::Database>::Row,
            __index: ::core::primitive::usize,
        ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
            ::core::result::Result::Ok(
                ::core::option::Option::map(
                    <Uuid as __p::field::Field>::sqlite_read(__row, __index)?,
                    Self,
                ),
            )
        }
    }
};
