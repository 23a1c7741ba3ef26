/* Part of load.c: messages of text that arrive in several parts. */

#define TEXT_SIZE 65536

static void keep_text(struct connection *c, const unsigned char *from, size_t size)
{
    if (c->text_length + size > TEXT_SIZE)
        die("more than %d bytes in a message", TEXT_SIZE);
    c->text = need(realloc(c->text, c->text_length + size + 1));
    memcpy(c->text + c->text_length, from, size);
    c->text_length += size;
    c->text[c->text_length] = 0;
}

static int begins(const char *line, const char *with)
{
    return !strncmp(line, with, strlen(with));
}
