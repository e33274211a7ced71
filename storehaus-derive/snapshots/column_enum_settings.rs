#[allow(deprecated)]
const _: () = {
    use storehaus::__private as __p;
    #[allow(dead_code)]
    fn __label(__value: &Mood) -> &'static ::core::primitive::str {
        match __value {
            Mood::VeryHappy => "very_happy",
            Mood::Indifferent => "so, so",
            Mood::r#Sad => "sad",
        }
    }
    #[automatically_derived]
    impl __p::cache::CacheField for Mood {
        const LAYOUT: ::core::primitive::u64 = __p::cache::codec::layout(
            "enum:very_happy,so\\, so,sad",
        );
        fn encode(
            &self,
            __out: &mut __p::cache::Encoder,
        ) -> ::core::result::Result<(), __p::cache::EncodeError> {
            let __number: ::core::primitive::i32 = match self {
                Self::VeryHappy => 0,
                Self::Indifferent => 1,
                Self::r#Sad => 2,
            };
            <::core::primitive::i32 as __p::cache::CacheField>::encode(&__number, __out)
        }
        fn decode(
            __input: &mut __p::cache::Decoder<'_>,
        ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
            match <::core::primitive::i32 as __p::cache::CacheField>::decode(__input)? {
                0 => ::core::result::Result::Ok(Self::VeryHappy),
                1 => ::core::result::Result::Ok(Self::Indifferent),
                2 => ::core::result::Result::Ok(Self::r#Sad),
                _ => {
                    ::core::result::Result::Err(
                        __p::cache::DecodeError::new(
                            "no variant of `Mood` has this number",
                        ),
                    )
                }
            }
        }
    }
    #[if_postgres]
    #[automatically_derived]
    impl __p::column::Column<__p::sqlx::Postgres> for Mood {
        const TYPE: __p::column::SqlType = __p::column::text::sql_type::<
            __p::sqlx::Postgres,
        >(::core::option::Option::Some("\"mood\""));
        fn bind(
            &self,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            __p::column::text::bind_label::<
                __p::sqlx::Postgres,
            >(__label(self), ::core::option::Option::Some("\"mood\""), __args)
        }
        fn bind_null(
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            __p::column::text::bind_null::<
                __p::sqlx::Postgres,
            >(::core::option::Option::Some("\"mood\""), __args)
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
            __p::column::text::bind_labels::<
                __p::sqlx::Postgres,
            >(
                ::core::iter::Iterator::map(
                    __values,
                    |__value| ::core::option::Option::map(__value, __label),
                ),
                ::core::option::Option::Some("\"mood\""),
                __args,
            )
        }
        fn read(
            __row: &<__p::sqlx::Postgres as __p::sqlx::Database>::Row,
            __index: ::core::primitive::usize,
        ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
            let ::core::option::Option::Some(__label) = __p::column::text::read_label::<
                __p::sqlx::Postgres,
            >(__row, __index)? else {
                return ::core::result::Result::Ok(::core::option::Option::None);
            };
            match &*__label {
                "very_happy" => {
                    ::core::result::Result::Ok(
                        ::core::option::Option::Some(Self::VeryHappy),
                    )
                }
                "so, so" => {
                    ::core::result::Result::Ok(
                        ::core::option::Option::Some(Self::Indifferent),
                    )
                }
                "sad" => {
                    ::core::result::Result::Ok(::core::option::Option::Some(Self::r#Sad))
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::column::text::unknown_label(__index, "Mood"),
                    )
                }
            }
        }
    }
    #[if_sqlite]
    #[automatically_derived]
    impl __p::column::Column<__p::sqlx::Sqlite> for Mood {
        const TYPE: __p::column::SqlType = __p::column::text::sql_type::<
            __p::sqlx::Sqlite,
        >(::core::option::Option::None);
        fn bind(
            &self,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            __p::column::text::bind_label::<
                __p::sqlx::Sqlite,
            >(__label(self), ::core::option::Option::None, __args)
        }
        fn bind_null(
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            __p::column::text::bind_null::<
                __p::sqlx::Sqlite,
            >(::core::option::Option::None, __args)
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
            __p::column::text::bind_labels::<
                __p::sqlx::Sqlite,
            >(
                ::core::iter::Iterator::map(
                    __values,
                    |__value| ::core::option::Option::map(__value, __label),
                ),
                ::core::option::Option::None,
                __args,
            )
        }
        fn read(
            __row: &<__p::sqlx::Sqlite as __p::sqlx::Database>::Row,
            __index: ::core::primitive::usize,
        ) -> ::core::result::Result<::core::option::Option<Self>, __p::sqlx::Error> {
            let ::core::option::Option::Some(__label) = __p::column::text::read_label::<
                __p::sqlx::Sqlite,
            >(__row, __index)? else {
                return ::core::result::Result::Ok(::core::option::Option::None);
            };
            match &*__label {
                "very_happy" => {
                    ::core::result::Result::Ok(
                        ::core::option::Option::Some(Self::VeryHappy),
                    )
                }
                "so, so" => {
                    ::core::result::Result::Ok(
                        ::core::option::Option::Some(Self::Indifferent),
                    )
                }
                "sad" => {
                    ::core::result::Result::Ok(::core::option::Option::Some(Self::r#Sad))
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::column::text::unknown_label(__index, "Mood"),
                    )
                }
            }
        }
    }
};
