using ExactFlow.Cli;

return CommandLine.Run(args);
