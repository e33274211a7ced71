#[allow(deprecated)]
const _: () = {
    use ::storehaus::__private as __p;
    #[automatically_derived]
    impl __p::cache::Cacheable for Membership
    where
        Membership: ::core::clone::Clone,
        UserId: __p::model::ModelKey,
        String: __p::model::ModelKey,
    {
        const SCHEMA: ::core::primitive::u64 = __p::cache::codec::schema(
            "memberships",
            &[
                ("user", <UserId as __p::field::Field>::LAYOUT),
                ("role", <String as __p::field::Field>::LAYOUT),
                ("team", <String as __p::field::Field>::LAYOUT),
            ],
        );
        fn write(
            &self,
            __out: &mut __p::cache::Encoder,
        ) -> ::core::result::Result<(), __p::cache::EncodeError> {
            <UserId as __p::field::Field>::encode(&self.user, __out)?;
            <String as __p::field::Field>::encode(&self.role, __out)?;
            <String as __p::field::Field>::encode(&self.team, __out)?;
            ::core::result::Result::Ok(())
        }
        fn read(
            __input: &mut __p::cache::Decoder<'_>,
        ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
            ::core::result::Result::Ok(Self {
                user: <UserId as __p::field::Field>::decode(__input)?,
                role: <String as __p::field::Field>::decode(__input)?,
                team: <String as __p::field::Field>::decode(__input)?,
            })
        }
    }
    #[automatically_derived]
    impl __p::model::Model for Membership
    where
        Membership: ::core::clone::Clone,
        UserId: __p::model::ModelKey,
        String: __p::model::ModelKey,
    {
        type Key = (UserId, String);
        const TABLE: __p::model::TableDef = __p::model::TableDef {
            model: "Membership",
            schema: ::core::option::Option::None,
            name: "memberships",
            columns: &[
                __p::model::ColumnDef {
                    field: "user",
                    name: "user",
                    role: __p::model::Role::Key,
                },
                __p::model::ColumnDef {
                    field: "role",
                    name: "role",
                    role: __p::model::Role::Plain,
                },
                __p::model::ColumnDef {
                    field: "team",
                    name: "team",
                    role: __p::model::Role::Key,
                },
            ],
            key: &[0usize, 2usize],
            indexes: &[],
            cache: __p::model::CacheMode::Shared,
            prefix: ::core::option::Option::None,
            ttl: ::core::option::Option::None,
        };
        fn key(&self) -> Self::Key {
            (
                <UserId as ::core::clone::Clone>::clone(&self.user),
                <String as ::core::clone::Clone>::clone(&self.team),
            )
        }
        fn before_create(&mut self, __now: __p::chrono::DateTime<__p::chrono::Utc>) {}
        fn before_update(&mut self, __now: __p::chrono::DateTime<__p::chrono::Utc>) {}
    }
    #[if_postgres]
    #[automatically_derived]
    impl __p::model::Persist<__p::sqlx::Postgres> for Membership
    where
        Membership: ::core::clone::Clone,
        UserId: __p::model::ModelKey,
        String: __p::model::ModelKey,
    {
        const TYPES: &'static [__p::column::SqlType] = &[
            <UserId as __p::field::Field>::POSTGRES_TYPE,
            <String as __p::field::Field>::POSTGRES_TYPE,
            <String as __p::field::Field>::POSTGRES_TYPE,
        ];
        fn bind(
            &self,
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => {
                    <UserId as __p::field::Field>::postgres_bind(&self.user, __args)
                }
                1usize => {
                    <String as __p::field::Field>::postgres_bind(&self.role, __args)
                }
                2usize => {
                    <String as __p::field::Field>::postgres_bind(&self.team, __args)
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("Membership", __column),
                    )
                }
            }
        }
        fn bind_array(
            __rows: &[Self],
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => {
                    <UserId as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.user),
                        ),
                        __args,
                    )
                }
                1usize => {
                    <String as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.role),
                        ),
                        __args,
                    )
                }
                2usize => {
                    <String as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.team),
                        ),
                        __args,
                    )
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("Membership", __column),
                    )
                }
            }
        }
        fn bind_key(
            __key: &Self::Key,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <UserId as __p::field::Field>::postgres_bind(&__key.0, __args)?;
            <String as __p::field::Field>::postgres_bind(&__key.1, __args)?;
            ::core::result::Result::Ok(())
        }
        fn bind_key_arrays(
            __keys: &[Self::Key],
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <UserId as __p::field::Field>::postgres_bind_array(
                ::core::iter::Iterator::map(
                    <[Self::Key]>::iter(__keys),
                    |__key| ::core::option::Option::Some(&__key.0),
                ),
                __args,
            )?;
            <String as __p::field::Field>::postgres_bind_array(
                ::core::iter::Iterator::map(
                    <[Self::Key]>::iter(__keys),
                    |__key| ::core::option::Option::Some(&__key.1),
                ),
                __args,
            )?;
            ::core::result::Result::Ok(())
        }
        fn from_row(
            __row: &<__p::sqlx::Postgres as __p::sqlx::Database>::Row,
        ) -> ::core::result::Result<Self, __p::sqlx::Error> {
            ::core::result::Result::Ok(Self {
                user: match <UserId as __p::field::Field>::postgres_read(
                    __row,
                    0usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(0usize, "user"),
                        );
                    }
                },
                role: match <String as __p::field::Field>::postgres_read(
                    __row,
                    1usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(1usize, "role"),
                        );
                    }
                },
                team: match <String as __p::field::Field>::postgres_read(
                    __row,
                    2usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(2usize, "team"),
                        );
                    }
                },
            })
        }
    }
    #[if_sqlite]
    #[automatically_derived]
    impl __p::model::Persist<__p::sqlx::Sqlite> for Membership
    where
        Membership: ::core::clone::Clone,
        UserId: __p::model::ModelKey,
        String: __p::model::ModelKey,
    {
        const TYPES: &'static [__p::column::SqlType] = &[
            <UserId as __p::field::Field>::SQLITE_TYPE,
            <String as __p::field::Field>::SQLITE_TYPE,
            <String as __p::field::Field>::SQLITE_TYPE,
        ];
        fn bind(
            &self,
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => <UserId as __p::field::Field>::sqlite_bind(&self.user, __args),
                1usize => <String as __p::field::Field>::sqlite_bind(&self.role, __args),
                2usize => <String as __p::field::Field>::sqlite_bind(&self.team, __args),
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("Membership", __column),
                    )
                }
            }
        }
        fn bind_array(
            __rows: &[Self],
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => {
                    <UserId as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.user),
                        ),
                        __args,
                    )
                }
                1usize => {
                    <String as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.role),
                        ),
                        __args,
                    )
                }
                2usize => {
                    <String as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.team),
                        ),
                        __args,
                    )
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("Membership", __column),
                    )
                }
            }
        }
        fn bind_key(
            __key: &Self::Key,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <UserId as __p::field::Field>::sqlite_bind(&__key.0, __args)?;
            <String as __p::field::Field>::sqlite_bind(&__key.1, __args)?;
            ::core::result::Result::Ok(())
        }
        fn bind_key_arrays(
            __keys: &[Self::Key],
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <UserId as __p::field::Field>::sqlite_bind_array(
                ::core::iter::Iterator::map(
                    <[Self::Key]>::iter(__keys),
                    |__key| ::core::option::Option::Some(&__key.0),
                ),
                __args,
            )?;
            <String as __p::field::Field>::sqlite_bind_array(
                ::core::iter::Iterator::map(
                    <[Self::Key]>::iter(__keys),
                    |__key| ::core::option::Option::Some(&__key.1),
                ),
                __args,
            )?;
            ::core::result::Result::Ok(())
        }
        fn from_row(
            __row: &<__p::sqlx::Sqlite as __p::sqlx::Database>::Row,
        ) -> ::core::result::Result<Self, __p::sqlx::Error> {
            ::core::result::Result::Ok(Self {
                user: match <UserId as __p::field::Field>::sqlite_read(__row, 0usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(0usize, "user"),
                        );
                    }
                },
                role: match <String as __p::field::Field>::sqlite_read(__row, 1usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(1usize, "role"),
                        );
                    }
                },
                team: match <String as __p::field::Field>::sqlite_read(__row, 2usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(2usize, "team"),
                        );
                    }
                },
            })
        }
    }
};
