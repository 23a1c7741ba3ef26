/* Part of load.c: the command line. */

static void usage(void)
{
    fputs("usage: load MODE --port N [options]\n"
          "    modes: echo command compressed handshakes idle hostile fanout\n"
          "           api-publish api-batch centrifuge-publish publish-back connect latency\n"
          "    [--path PATH] [--connections 100] [--in-flight 1] [--parallel 32] [--size 64]\n"
          "    [--payload text|binary|utf8] [--duration 3] [--warmup 1] [--pid SERVER]... [--tls]\n"
          "    fanout: [--publish /publish | --redis PORT] [--channels N] [--sse]\n"
          "    fanout, idle, connect: [--centrifuge]; fanout: [--protobuf]; connect: [--reset]\n"
          "    api-publish, api-batch: [--api-key bench] [--channels N]\n"
          "    latency: --rate MESSAGES_PER_SECOND\n"
          "    another server: [--timeout 60] --address IP --host HOST [--header 'NAME: VALUE']... [--verify NAME]\n"
          "    Centrifuge: [--channel foo] [--token TOKEN]\n", stderr);
    exit(2);
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'u'}, {"connections", 1, 0, 'c'}, {"in-flight", 1, 0, 'i'},
        {"parallel", 1, 0, 'a'}, {"size", 1, 0, 's'}, {"payload", 1, 0, 'l'}, {"duration", 1, 0, 'd'},
        {"warmup", 1, 0, 'w'}, {"pid", 1, 0, 'P'}, {"tls", 0, 0, 't'}, {"api-key", 1, 0, 'k'},
        {"publish", 1, 0, 'b'}, {"redis", 1, 0, 'r'}, {"channels", 1, 0, 'n'}, {"centrifuge", 0, 0, 'f'},
        {"reset", 0, 0, 'R'}, {"sse", 0, 0, 'e'}, {"rate", 1, 0, 'x'}, {"address", 1, 0, 'A'}, {"host", 1, 0, 'H'},
        {"header", 1, 0, 'h'}, {"verify", 1, 0, 'v'}, {"channel", 1, 0, 'C'}, {"token", 1, 0, 'T'},
        {"timeout", 1, 0, 'o'}, {"protobuf", 0, 0, 'm'}, {0}};
    if (argc < 2)
        usage();
    while (MODES[options.mode] && strcmp(MODES[options.mode], argv[1]))
        options.mode++;
    if (!MODES[options.mode])
        usage();
    optind = 2;
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;)
        switch (c) {
        case 'p': options.port = atoi(optarg); break;
        case 'u': options.path = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 'i': options.in_flight = atoi(optarg); break;
        case 'a': options.parallel = atoi(optarg); break;
        case 's': options.size = strtoul(optarg, NULL, 10); break;
        case 'l': options.payload = optarg; break;
        case 'd': options.duration = atof(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 't': options.tls = 1; break;
        case 'b': options.publish = optarg; break;
        case 'r': options.redis = atoi(optarg); break;
        case 'f': options.centrifuge = 1; break;
        case 'n': options.channels = atoi(optarg); break;
        case 'R': options.reset = 1; break;
        case 'e': options.sse = 1; break;
        case 'm': options.protobuf = 1; break;
        case 'x': options.rate = atof(optarg); break;
        case 'k': options.api_key = optarg; break;
        case 'o': options.timeout = atof(optarg); break;
        case 'A': options.address = optarg; break;
        case 'H': options.host = optarg; break;
        case 'v': options.verify = optarg; break;
        case 'C': options.channel = optarg; break;
        case 'T': options.token = optarg; break;
        case 'h':
            if (options.headers == MAX_HEADERS)
                die("at most %d headers", MAX_HEADERS);
            options.header[options.headers++] = optarg;
            break;
        case 'P':
            if (options.pids == MAX_PIDS)
                die("at most %d processes", MAX_PIDS);
            options.pid[options.pids++] = atoi(optarg);
            break;
        default: usage();
        }
    if (optind != argc || options.port < 1 || options.connections < 1 || options.in_flight < 1 ||
        options.parallel < 1 || options.duration <= 0 || options.channels < 0)
        usage();
}

/* Reject options that a mode cannot work with. */
static void check_options(void)
{
    int one_in_flight = options.mode == HOSTILE || options.mode == PUBLISH_BACK || is_api();
    int publishes = options.mode == FANOUT || options.mode == CENTRIFUGE_PUBLISH || options.mode == PUBLISH_BACK;
    if (one_in_flight && options.in_flight != 1)
        die("%s has 1 message in flight only", MODES[options.mode]);
    if (options.centrifuge && !publishes && options.mode != IDLE && options.mode != CONNECT)
        die("%s does not use the Centrifuge protocol", MODES[options.mode]);
    if ((options.centrifuge || is_api()) && (options.size < 4 || options.size > 2000 || opcode != TEXT))
        die("publications have 4 to 2000 bytes of text");
    if (publishes && (options.in_flight > SLOTS / 2 || options.size < 4))
        die("%s has at most %d messages in flight, of 4 bytes or more", MODES[options.mode], SLOTS / 2);
    if (options.channels > 100000 || (options.channels && !is_api() && options.mode != FANOUT))
        die("--channels is for fanout, api-publish and api-batch, and at most 100000");
    int channels = options.mode == FANOUT ? options.channels : 0;
    if (channels && (options.centrifuge || channels != options.connections - 1))
        die("fanout needs one connection for each channel, and no Centrifuge protocol");
    if (options.sse && (options.mode != FANOUT || options.centrifuge || options.tls))
        die("--sse is for fanout without TLS and the Centrifuge protocol");
    if (options.protobuf && (options.mode != FANOUT || !options.centrifuge))
        die("--protobuf is for fanout with --centrifuge");
    if (options.mode == LATENCY && options.rate <= 0)
        die("latency needs --rate");
    if (options.mode == COMPRESSED && (options.size < 200 || options.size > 1900))
        die("compressed messages have 200 to 1900 bytes");
}

/* Set what follows from the mode. */
static void complete_options(void)
{
    if (options.mode == CENTRIFUGE_PUBLISH || options.mode == PUBLISH_BACK)
        options.centrifuge = 1;
    if (!options.path)
        options.path = options.mode == API_PUBLISH ? "/api/publish"
                       : options.mode == API_BATCH ? "/api/batch"
                       : options.centrifuge        ? "/connection/websocket"
                                                   : "/echo";
    if (options.mode == HANDSHAKES)
        options.connections = options.parallel;
    if (options.mode == LATENCY)
        options.in_flight = 16; /* the messages of one write; more may be in flight */
    if (options.mode == PUBLISH_BACK || options.mode == CENTRIFUGE_PUBLISH)
        options.connections = 1;
    if (options.mode == HOSTILE || options.mode == FANOUT || options.mode == CENTRIFUGE_PUBLISH)
        options.connections++; /* the last one is the hostile one, or the publisher */
}
