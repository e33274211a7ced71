::core::compile_error! {
    "unknown setting `colour`; a model has `table`, `schema`, `cache`, `prefix`, `ttl`, `unique`, `index`, `crate`"
}
#[allow(deprecated)]
const _: () = {
    use ::storehaus::__private as __p;
    #[automatically_derived]
    impl __p::cache::Cacheable for User {
        const SCHEMA: ::core::primitive::u64 = 0;
        fn write(
            &self,
            _: &mut __p::cache::Encoder,
        ) -> ::core::result::Result<(), __p::cache::EncodeError> {
            ::core::panic!("the derive refused this type")
        }
        fn read(
            _: &mut __p::cache::Decoder<'_>,
        ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
            ::core::panic!("the derive refused this type")
        }
    }
    #[automatically_derived]
    impl __p::model::Model for User {
        type Key = Uuid;
        const TABLE: __p::model::TableDef = __p::model::TableDef {
            model: "",
            schema: ::core::option::Option::None,
            name: "",
            columns: &[],
            key: &[],
            indexes: &[],
            cache: __p::model::CacheMode::Never,
            prefix: ::core::option::Option::None,
            ttl: ::core::option::Option::None,
        };
        fn key(&self) -> Self::Key {
            ::core::panic!("the derive refused this type")
        }
        fn before_create(&mut self, _: __p::chrono::DateTime<__p::chrono::Utc>) {}
        fn before_update(&mut self, _: __p::chrono::DateTime<__p::chrono::Utc>) {}
    }
    #[if_postgres]
    #[automatically_derived]
    impl __p::model::Persist<__p::sqlx::Postgres> for User {
        const TYPES: &'static [__p::column::SqlType] = &[];
        fn bind(
            &self,
            _: ::core::primitive::usize,
            _: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_array(
            _: &[Self],
            _: ::core::primitive::usize,
            _: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_key(
            _: &Self::Key,
            _: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_key_arrays(
            _: &[Self::Key],
            _: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn from_row(
            _: &<__p::sqlx::Postgres as __p::sqlx::Database>::Row,
        ) -> ::core::result::Result<Self, __p::sqlx::Error> {
            ::core::panic!("the derive refused this type")
        }
    }
    #[if_sqlite]
    #[automatically_derived]
    impl __p::model::Persist<__p::sqlx::Sqlite> for User {
        const TYPES: &'static [__p::column::SqlType] = &[];
        fn bind(
            &self,
            _: ::core::primitive::usize,
            _: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_array(
            _: &[Self],
            _: ::core::primitive::usize,
            _: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_key(
            _: &Self::Key,
            _: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn bind_key_arrays(
            _: &[Self::Key],
            _: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            ::core::panic!("the derive refused this type")
        }
        fn from_row(
            _: &<__p::sqlx::Sqlite as __p::sqlx::Database>::Row,
        ) -> ::core::result::Result<Self, __p::sqlx::Error> {
            ::core::panic!("the derive refused this type")
        }
    }
};
