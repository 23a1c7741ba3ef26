"""What the error replies of Redis mean."""

import pytest

from wsserver.redis.errors import describe_reply, is_refused_command


class DescribeTests:
    """`describe_reply` and `is_refused_command`."""

    @pytest.mark.parametrize(
        ("reply", "words"),
        [
            (
                "READONLY You can't write against a read only replica. script: 0a1b, on @user_script:22.",
                (
                    "Redis is a read-only replica and refuses writes; name the master in --redis: "
                    "READONLY You can't write against a read only replica"
                ),
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                (
                    "Redis is out of memory (maxmemory) and refuses writes: "
                    "OOM command not allowed when used memory > 'maxmemory'."
                ),
            ),
            ("ERR something new", "Redis replied: ERR something new"),
            (
                "ERR unknown command 'INFO', with args beginning with: 'persistence' ",
                "Redis does not know the command INFO, which may have been renamed: ERR unknown command 'INFO'",
            ),
            (
                "ERR unknown command `info`, with args beginning with: `server`, ",
                "Redis does not know the command INFO, which may have been renamed: ERR unknown command `info`",
            ),
            (
                "ERR Unknown Redis command called from script script: 0a1b, on @user_script:24.",
                (
                    "a command that publishing needs may have been renamed in Redis: "
                    "ERR Unknown Redis command called from script"
                ),
            ),
        ],
    )
    def test_a_reply_is_explained_and_quoted_without_the_place_in_a_script(self, reply, words):
        """A reply without an explanation is only quoted."""
        assert describe_reply(reply) == words

    @pytest.mark.parametrize("quote", ["'", "`"])
    def test_omits_the_password_of_an_unknown_auth_command(self, quote):
        """Redis repeats the arguments of a command that it does not know."""
        reply = (
            f"ERR unknown command {quote}AUTH{quote}, with args beginning with: {quote}me{quote} {quote}hush{quote} "
        )
        assert "hush" not in describe_reply(reply)
        assert "the command AUTH" in describe_reply(reply)

    @pytest.mark.parametrize(
        ("reply", "refused"),
        [
            ("NOPERM this user has no permissions to run the 'info' command", True),
            ("ERR unknown command 'INFO', with args beginning with: ", True),
            ("ERR unknown command `INFO`", True),
            ("NOAUTH Authentication required.", False),
            ("LOADING Redis is loading the dataset in memory", False),
        ],
    )
    def test_a_command_is_refused_if_it_is_denied_or_renamed(self, reply, refused):
        """Other errors may be temporary."""
        assert is_refused_command(reply) is refused
