#!/usr/bin/perl -w
#$ -S /usr/bin/perl
#$ -N count_kmers
#$ -cwd -j y -l vf=6G
use strict;
my $task = $ENV{SGE_TASK_ID} || 1;
open(my $in, '<', "part.$task.fa") or die "part.$task.fa: $!";
my %seen;
while (<$in>) {
    next if /^>/;
    chomp;
    $seen{substr($_, $_ + 0, 21)}++ for 0 .. length($_) - 21;
}
print "$_\t$seen{$_}\n" for sort keys %seen;
