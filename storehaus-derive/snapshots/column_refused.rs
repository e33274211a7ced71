::core::compile_error! {
    "a column type has exactly one unnamed field, such as `struct Id(i64);`; to store several values in one column put `#[json]` on the model's field"
}
#[allow(deprecated)]
const _: () = {
    use ::storehaus::__private as __p;
    #[automatically_derived]
    impl __p::cache::CacheField for Pair {
        const LAYOUT: ::core::primitive::u64 = 0;
        fn encode(
            &self,
            _: &mut __p::cache::Encoder,
        ) -> ::core::result::Result<(), __p::cache::EncodeError> {
            ::core::panic!("the derive refused this type")
        }
        fn decode(
            _: &mut __p::cache::Decoder<'_>,
        ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
            ::core::panic!("the derive refused this type")
        }
    }
    #[if_postgres]
    #[automatically_derived]
    impl __p::column::Column<__p::sqlx::Postgres> for Pair {
        const TYPE: __p::column::SqlType = <::core::primitive::i64 as __p::column::Column<
            __p::sqlx::Postgres,
        >>::TYPE;
        fn bind(
            &self,
            _: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_null(
            _: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_array<'__v>(
            _: impl ::core::iter::Iterator<Item = ::core::option::Option<&'__v Self>>,
            _: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError>
        where
            Self: '__v,
        {
            ::core::panic!("the derive refused this type")
        }
        fn read(
            _: &<__p::sqlx::Postgres as __p::sqlx::Database>::Row,
            _: ::core::primitive::usize,
        ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
            ::core::panic!("the derive refused this type")
        }
    }
    #[if_sqlite]
    #[automatically_derived]
    impl __p::column::Column<__p::sqlx::Sqlite> for Pair {
        const TYPE: __p::column::SqlType = <::core::primitive::i64 as __p::column::Column<
            __p::sqlx::Sqlite,
        >>::TYPE;
        fn bind(
            &self,
            _: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_null(
            _: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_array<'__v>(
            _: impl ::core::iter::Iterator<Item = ::core::option::Option<&'__v Self>>,
            _: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError>
        where
            Self: '__v,
        {
            ::core::panic!("the derive refused this type")
        }
        fn read(
            _: &<__p::sqlx::Sqlite as __p::sqlx::Database>::Row,
            _: ::core::primitive::usize,
        ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
            ::core::panic!("the derive refused this type")
        }
    }
};
