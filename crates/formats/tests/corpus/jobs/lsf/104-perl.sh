#!/usr/bin/perl -w
#BSUB -J count -o count.%J
#BSUB -R "rusage[mem=500MB]"
use strict;
my %n;
while (my $line = <STDIN>) {
    $n{$_}++ for split ' ', $line;
}
printf "%7d %s\n", $n{$_}, $_ for sort keys %n;
